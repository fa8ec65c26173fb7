/**
 * What operators do to a running proxy, once. The console's commands, control's API, the CLI, the HTTP port of a proxy and
 * the message that control signs for a proxy are derived from this table; each operation has a function in
 * proxy/console/operate.ts.
 */

/** What operators order for a pool of a fleet, until they end it: clients wait, or new ones are rejected. */
export type OrderEffect = 'paused' | 'disabled'

export interface OperationSpec {
  /** Of a console user; in the API all operations are the operator's. */
  readonly right: 'admin' | 'stats'
  /**
   * Where it is offered besides the console: for a pool by the API, the CLI and a proxy's HTTP port; for a fleet, by routes
   * and commands of its own; or nowhere.
   */
  readonly remote: 'pool' | 'fleet' | 'nowhere'
  /** What follows its name at the console, as SHOW HELP prints it; null if nothing may. */
  readonly operand: string | null
  /**
   * What stands for the fleet's pool from then on, when control has stored the operation: `begins` is false for the end of an
   * effect. Null for operations of the moment, and for those that are not the fleet's.
   */
  readonly order: { readonly effect: OrderEffect; readonly begins: boolean } | null
  /** Other operations whose effect it ends. It is then also possible on a pool that has left the configuration. */
  readonly undoes: readonly string[]
  /** What has to end before it is complete. `leaving_servers` are those that are being replaced. */
  readonly waitsFor: 'servers' | 'leaving_servers' | 'unsent_bytes' | 'version' | 'nothing'
  /** An imperative, without its object. */
  readonly help: string
}

export const operations = {
  reload: {
    right: 'admin',
    remote: 'fleet',
    operand: null,
    order: null,
    undoes: [],
    waitsFor: 'version',
    help: 'load the newest configuration now',
  },
  pause: {
    right: 'admin',
    remote: 'pool',
    operand: '[db]',
    order: { effect: 'paused', begins: true },
    undoes: [],
    waitsFor: 'servers',
    help: 'make clients wait, and close servers as they become free',
  },
  resume: {
    right: 'admin',
    remote: 'pool',
    operand: '[db]',
    // A SUSPEND, which concerns all databases, only where no database is named.
    order: { effect: 'paused', begins: false },
    undoes: ['pause', 'kill', 'suspend'],
    waitsFor: 'leaving_servers',
    help: 'end a pause, kill or suspension',
  },
  reconnect: {
    right: 'admin',
    remote: 'pool',
    operand: '[db]',
    order: null,
    undoes: [],
    waitsFor: 'leaving_servers',
    help: 'replace servers as they become free',
  },
  wait_close: {
    right: 'admin',
    remote: 'nowhere',
    operand: '[db]',
    order: null,
    undoes: [],
    waitsFor: 'leaving_servers',
    help: 'wait until replaced servers have closed',
  },
  disable: {
    right: 'admin',
    remote: 'pool',
    operand: 'db',
    order: { effect: 'disabled', begins: true },
    undoes: [],
    waitsFor: 'nothing',
    help: 'reject new clients; existing ones stay',
  },
  enable: {
    right: 'admin',
    remote: 'pool',
    operand: 'db',
    order: { effect: 'disabled', begins: false },
    undoes: ['disable'],
    waitsFor: 'nothing',
    help: 'accept new clients again',
  },
  kill: {
    right: 'admin',
    remote: 'pool',
    operand: '[db]',
    order: { effect: 'paused', begins: true },
    undoes: [],
    waitsFor: 'servers',
    help: 'close all connections now, and pause',
  },
  kill_client: {
    right: 'admin',
    remote: 'nowhere',
    operand: 'id',
    order: null,
    undoes: [],
    waitsFor: 'nothing',
    help: 'disconnect the client with this id in SHOW CLIENTS',
  },
  suspend: {
    right: 'admin',
    remote: 'nowhere',
    operand: null,
    order: null,
    undoes: [],
    waitsFor: 'unsent_bytes',
    help: 'stop all traffic until RESUME',
  },
  shutdown: {
    right: 'admin',
    remote: 'nowhere',
    operand: '[WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS]',
    order: null,
    undoes: [],
    waitsFor: 'nothing',
    help: 'stop the proxy',
  },
} as const satisfies Record<string, OperationSpec>

export type OperationName = keyof typeof operations

/** Operations that control sends to proxies, for one pool. */
export type PoolOperation = {
  [Name in OperationName]: (typeof operations)[Name]['remote'] extends 'pool' ? Name : never
}[OperationName]

export const operationNames = Object.keys(operations) as OperationName[]

export const poolOperations = operationNames.filter((name): name is PoolOperation => operations[name].remote === 'pool')

/** What operators have done to a pool, as long as it lasts. */
export const operatedStates = ['paused', 'disabled', 'suspended'] as const
export type OperatedPool = (typeof operatedStates)[number]
