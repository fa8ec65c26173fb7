/**
 * Operations on a pool, once. The console's commands, control's API, the CLI, the HTTP port of a proxy and the message that
 * control signs for a proxy are derived from this table; each has a function in proxy/console/operations.ts.
 */

export interface OperationSpec {
  /** Of a console user; in the API all operations are the operator's. */
  readonly right: 'admin' | 'stats'
  /** Other operations whose effect it ends. It is then also possible on a pool that has left the configuration. */
  readonly undoes: readonly string[]
  /** What has to close before it is complete: all servers, those that are being replaced, or none. */
  readonly waitsFor: 'servers' | 'leaving_servers' | 'nothing'
  /** At the console: whether a database may, must or need not be named. Without one it concerns all databases. */
  readonly database: 'required' | 'optional'
  /** An imperative, without its object. */
  readonly help: string
}

export const operations = {
  pause: {
    right: 'admin',
    undoes: [],
    waitsFor: 'servers',
    database: 'optional',
    help: 'make clients wait, and close servers as they become free',
  },
  resume: {
    right: 'admin',
    undoes: ['pause', 'kill'],
    waitsFor: 'leaving_servers',
    database: 'optional',
    help: 'end a pause or kill',
  },
  reconnect: {
    right: 'admin',
    undoes: [],
    waitsFor: 'leaving_servers',
    database: 'optional',
    help: 'replace servers as they become free',
  },
  disable: {
    right: 'admin',
    undoes: [],
    waitsFor: 'nothing',
    database: 'required',
    help: 'reject new clients; existing ones stay',
  },
  enable: {
    right: 'admin',
    undoes: ['disable'],
    waitsFor: 'nothing',
    database: 'required',
    help: 'accept new clients again',
  },
  kill: {
    right: 'admin',
    undoes: [],
    waitsFor: 'servers',
    database: 'optional',
    help: 'close all connections now, and pause',
  },
} as const satisfies Record<string, OperationSpec>

export type PoolOperation = keyof typeof operations

export const operationNames = Object.keys(operations) as [PoolOperation, ...PoolOperation[]]
