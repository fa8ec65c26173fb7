import type { Command } from './command.ts'

interface Entry {
  readonly help: string
  /** Loads the command only when it is called, so that `flotilla versions` does not load a database. */
  readonly load: () => Promise<Command>
}

/** Every command, in the order of the help text. Adding one is one line here and one file in commands/. */
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
    help: "have proxies obey control's store after it was restored from a backup",
    load: async () => (await import('./commands/epoch-raise.ts')).epochRaise,
  },
  'fleet create': {
    help: 'make a fleet',
    load: async () => (await import('./commands/fleet-create.ts')).fleetCreate,
  },
  'fleet list': {
    help: 'list the fleets with their versions and proxies',
    load: async () => (await import('./commands/fleet-list.ts')).fleetList,
  },
  plan: {
    help: 'say what applying a configuration would change',
    load: async () => (await import('./commands/plan.ts')).plan,
  },
  apply: {
    help: 'make a configuration the current version',
    load: async () => (await import('./commands/apply.ts')).apply,
  },
  versions: {
    help: 'list the versions, newest first',
    load: async () => (await import('./commands/versions.ts')).versions,
  },
  show: {
    help: 'print the configuration of version N',
    load: async () => (await import('./commands/show.ts')).show,
  },
  diff: {
    help: 'say what changed from version N to version M',
    load: async () => (await import('./commands/diff.ts')).diff,
  },
  rollback: {
    help: 'make the content of version N current again',
    load: async () => (await import('./commands/rollback.ts')).rollback,
  },
  reload: {
    help: 'make every proxy look at the current version now',
    load: async () => (await import('./commands/reload.ts')).reload,
  },
  pause: {
    help: 'let the clients of POOL wait on every proxy, and close its servers',
    load: async () => (await import('./commands/operations.ts')).pause,
  },
  resume: {
    help: 'serve the clients of a paused POOL again',
    load: async () => (await import('./commands/operations.ts')).resume,
  },
  reconnect: {
    help: 'replace the servers of POOL on every proxy as they become free',
    load: async () => (await import('./commands/operations.ts')).reconnect,
  },
  disable: {
    help: 'refuse new clients of POOL on every proxy',
    load: async () => (await import('./commands/operations.ts')).disable,
  },
  enable: {
    help: 'let clients of a disabled POOL in again',
    load: async () => (await import('./commands/operations.ts')).enable,
  },
  kill: {
    help: 'end all connections of POOL on every proxy now; new ones wait for resume',
    load: async () => (await import('./commands/operations.ts')).kill,
  },
  proxies: {
    help: 'list the proxies and what they run',
    load: async () => (await import('./commands/proxies.ts')).proxies,
  },
  disconnects: {
    help: 'list lost server connections, newest first',
    load: async () => (await import('./commands/disconnects.ts')).disconnects,
  },
  'secret put': {
    help: 'give a secret a value, typed or from standard input',
    load: async () => (await import('./commands/secret-put.ts')).secretPut,
  },
  'secret list': {
    help: 'list the secrets without their values, and who uses them',
    load: async () => (await import('./commands/secret-list.ts')).secretList,
  },
  'token create': {
    help: 'make a token for proxies of the fleet',
    load: async () => (await import('./commands/token-create.ts')).tokenCreate,
  },
  'token list': {
    help: 'list the tokens of the fleet',
    load: async () => (await import('./commands/token-list.ts')).tokenList,
  },
  'token revoke': {
    help: 'end the token with this id',
    load: async () => (await import('./commands/token-revoke.ts')).tokenRevoke,
  },
} as const satisfies Record<string, Entry>

export type CommandName = keyof typeof commands

/** The command that the first one or two words name, and the words after it. */
export function findCommand(words: readonly string[]): { name: CommandName; rest: readonly string[] } | undefined {
  for (const length of [2, 1]) {
    const name = words.slice(0, length).join(' ')
    if (words.length >= length && Object.hasOwn(commands, name)) {
      return { name: name as CommandName, rest: words.slice(length) }
    }
  }
  return undefined
}
