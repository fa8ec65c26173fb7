import { poolOperations, operations } from '../shared/operations.ts'
import type { PoolOperation } from '../shared/operations.ts'
import type { Command } from './command.ts'

interface Entry {
  readonly help: string
  /** Loads the command on demand, so that `flotilla versions` does not load a database. */
  readonly load: () => Promise<Command>
}

const operationEntries = Object.fromEntries(
  poolOperations.map((name): [PoolOperation, Entry] => [
    name,
    {
      help: `on all proxies, for POOL: ${operations[name].help}`,
      load: async () => (await import('./commands/operations.ts')).operationCommand(name),
    },
  ]),
) as Record<PoolOperation, Entry>

/** All commands, in the order of the help text. To add one, add a line here and a file in commands/. */
export const commands = {
  start: {
    help: 'run PostgreSQL, control and two proxies on this machine',
    load: async () => (await import('./commands/start.ts')).start,
  },
  control: {
    help: 'run the control plane',
    load: async () => (await import('./commands/control.ts')).control,
  },
  proxy: {
    help: 'run one proxy',
    load: async () => (await import('./commands/proxy.ts')).proxy,
  },
  'epoch raise': {
    help: 'make proxies follow a store restored from a backup',
    load: async () => (await import('./commands/epoch-raise.ts')).epochRaise,
  },
  'fleet create': {
    help: 'create a fleet',
    load: async () => (await import('./commands/fleet-create.ts')).fleetCreate,
  },
  'fleet list': {
    help: 'list fleets with their versions and proxies',
    load: async () => (await import('./commands/fleet-list.ts')).fleetList,
  },
  plan: {
    help: 'show what applying a configuration would change',
    load: async () => (await import('./commands/plan.ts')).plan,
  },
  apply: {
    help: 'create a version from a configuration',
    load: async () => (await import('./commands/apply.ts')).apply,
  },
  versions: {
    help: 'list versions, newest first',
    load: async () => (await import('./commands/versions.ts')).versions,
  },
  show: {
    help: 'print the configuration of version N',
    load: async () => (await import('./commands/show.ts')).show,
  },
  diff: {
    help: 'show the changes from version N to version M',
    load: async () => (await import('./commands/diff.ts')).diff,
  },
  rollback: {
    help: 'create a version with the content of version N',
    load: async () => (await import('./commands/rollback.ts')).rollback,
  },
  reload: {
    help: `on all proxies: ${operations.reload.help}`,
    load: async () => (await import('./commands/reload.ts')).reload,
  },
  ...operationEntries,
  operations: {
    help: 'list pools that are paused or disabled, with the reason and until when',
    load: async () => (await import('./commands/standing-operations.ts')).standingOperations,
  },
  proxies: {
    help: 'list proxies, their states and what is wrong',
    load: async () => (await import('./commands/proxies.ts')).proxies,
  },
  'proxy show': {
    help: 'show one proxy: its state with the reasons, and its pools',
    load: async () => (await import('./commands/proxy-show.ts')).proxyShow,
  },
  disconnects: {
    help: 'list lost server connections, newest first',
    load: async () => (await import('./commands/disconnects.ts')).disconnects,
  },
  'secret put': {
    help: 'set the value of a secret, from a prompt or standard input',
    load: async () => (await import('./commands/secret-put.ts')).secretPut,
  },
  'secret list': {
    help: 'list secrets, without values, and their uses',
    load: async () => (await import('./commands/secret-list.ts')).secretList,
  },
  'token create': {
    help: "create a token for the fleet's proxies",
    load: async () => (await import('./commands/token-create.ts')).tokenCreate,
  },
  'token list': {
    help: 'list the tokens of the fleet',
    load: async () => (await import('./commands/token-list.ts')).tokenList,
  },
  'token revoke': {
    help: 'revoke the token with this id',
    load: async () => (await import('./commands/token-revoke.ts')).tokenRevoke,
  },
} as const satisfies Record<string, Entry>

export type CommandName = keyof typeof commands

/** The command named by the first one or two words, and the remaining words. */
export function findCommand(words: readonly string[]): { name: CommandName; rest: readonly string[] } | undefined {
  for (const length of [2, 1]) {
    const name = words.slice(0, length).join(' ')
    if (words.length >= length && Object.hasOwn(commands, name)) {
      return { name: name as CommandName, rest: words.slice(length) }
    }
  }
  return undefined
}
