import { parseArgs } from 'node:util'
import { generalKeys } from '../../shared/config/keys.ts'
import { nameSchema } from '../../shared/wire.ts'
import type { AgentSettings, SourceSettings } from './agent.ts'

/** The command line or environment is invalid. The message is for the operator. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

interface Option {
  /** Used if the option is not given. */
  readonly variable: string
  readonly value: string
  readonly help: string
}

/** All settings of a proxy process; the rest is in the fleet's configuration. */
export const proxyOptions = {
  control: { variable: 'FLOTILLA_CONTROL', value: 'URL', help: 'URL of control, such as http://127.0.0.1:8080' },
  fleet: { variable: 'FLOTILLA_FLEET', value: 'NAME', help: 'fleet of this proxy' },
  token: {
    variable: 'FLOTILLA_PROXY_TOKEN',
    value: 'TOKEN',
    help: "the fleet's proxy token; preferably set by the variable, which other users cannot see",
  },
  config: { variable: 'FLOTILLA_CONFIG', value: 'FILE', help: 'run from this file, without control' },
  state: {
    variable: 'FLOTILLA_STATE',
    value: 'DIR',
    help: 'state directory (default flotilla-state; with --config, none)',
  },
  id: { variable: 'FLOTILLA_PROXY_ID', value: 'NAME', help: 'name of this proxy (default: generated once and kept)' },
  'listen-host': {
    variable: 'FLOTILLA_LISTEN_HOST',
    value: 'HOST',
    help: "listen address for clients (default: general.listen_host of the fleet's configuration)",
  },
  'listen-port': {
    variable: 'FLOTILLA_LISTEN_PORT',
    value: 'PORT',
    help: "listen port for clients (default: general.listen_port of the fleet's configuration)",
  },
  takeover: {
    variable: 'FLOTILLA_TAKEOVER',
    value: 'SOCKET',
    help: 'Unix socket for online restarts, over which a new process takes over the listener (default: none)',
  },
  workers: {
    variable: 'FLOTILLA_WORKERS',
    value: 'COUNT',
    help: "number of engine threads (default: general.workers of the fleet's configuration)",
  },
  'io-uring': {
    variable: 'FLOTILLA_IO_URING',
    value: 'auto|off',
    help: 'use io_uring for sends if the kernel allows it: auto or off (default auto)',
  },
  'http-host': {
    variable: 'FLOTILLA_HTTP_HOST',
    value: 'HOST',
    help: 'listen address for hints, health and metrics (default 127.0.0.1)',
  },
  'http-port': {
    variable: 'FLOTILLA_HTTP_PORT',
    value: 'PORT',
    help: 'listen port for hints, health and metrics (default 9930)',
  },
  'http-token': {
    variable: 'FLOTILLA_HTTP_TOKEN',
    value: 'TOKEN',
    help: 'token that allows operations over that port: POST /v1/pools/{pool}/pause and others, POST /v1/reload (default: not allowed)',
  },
  'hint-url': {
    variable: 'FLOTILLA_HINT_URL',
    value: 'URL',
    help: 'URL at which control reaches that port, such as http://10.0.0.7:9930 (default: no hints)',
  },
  'peer-host': {
    variable: 'FLOTILLA_PEER_HOST',
    value: 'HOST',
    help: 'address at which other proxies of the fleet reach this one, to forward cancel requests (default: the listen address, or the host of --hint-url)',
  },
  region: { variable: 'FLOTILLA_REGION', value: 'NAME', help: 'region of this proxy, shown to operators' },
} as const satisfies Record<string, Option>

type OptionName = keyof typeof proxyOptions
type Given = Readonly<Partial<Record<OptionName, string>>>

const defaultHttpHost = '127.0.0.1'
const defaultHttpPort = 9930
const defaultStateFolder = 'flotilla-state'
const portMax = 65535
const regionLengthMax = 64
const tokenLengthMin = 16
/** The path of a Unix socket has at most 107 bytes, and cancel sockets add up to 17. */
const takeoverBytesMax = 90

/** Settings from the arguments of `flotilla proxy` and the environment. Throws a UsageError. */
export function proxySettings(
  words: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  version: string,
): AgentSettings {
  const given = readGiven(words, environment)
  return {
    source: sourceOf(given),
    listen: { host: given['listen-host'] ?? null, port: portOf(given, 'listen-port') },
    takeover: takeoverOf(given),
    workers: workersOf(given),
    ioUring: ioUringOf(given),
    http: { host: given['http-host'] ?? defaultHttpHost, port: portOf(given, 'http-port') ?? defaultHttpPort },
    httpToken: httpTokenOf(given),
    hintUrl: hintUrlOf(given),
    peerHost: given['peer-host'] ?? null,
    region: given.region?.slice(0, regionLengthMax) ?? null,
    version,
    environment,
  }
}

function readGiven(words: readonly string[], environment: Readonly<Record<string, string | undefined>>): Given {
  const names = Object.keys(proxyOptions) as OptionName[]
  const options = Object.fromEntries(names.map((name) => [name, { type: 'string' as const }]))
  const given: Partial<Record<OptionName, string>> = {}
  let values: Partial<Record<string, string | boolean>>
  try {
    values = parseArgs({ args: [...words], options, strict: true }).values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error })
  }
  for (const name of names) {
    const value = values[name] ?? environment[proxyOptions[name].variable]
    if (typeof value === 'string' && value !== '') given[name] = value
  }
  // Arguments override the environment, also the choice between control and file.
  if (values['control'] !== undefined && values['config'] === undefined) delete given.config
  if (values['config'] !== undefined && values['control'] === undefined) delete given.control
  return given
}

function sourceOf(given: Given): SourceSettings {
  if (given.config !== undefined && given.control !== undefined) {
    throw new UsageError('--config runs without control; use either --config or --control')
  }
  if (given.config !== undefined) {
    return { kind: 'file', path: given.config, ...(given.state === undefined ? {} : { stateFolder: given.state }) }
  }
  if (given.control === undefined) {
    throw new UsageError('the source of the configuration is required: --control URL (with --fleet) or --config FILE')
  }
  return {
    kind: 'control',
    url: urlOf(given.control, '--control'),
    fleet: nameOf(required(given, 'fleet'), '--fleet'),
    token: required(given, 'token'),
    stateFolder: given.state ?? defaultStateFolder,
    proxyId: given.id === undefined ? null : nameOf(given.id, '--id'),
  }
}

function required(given: Given, name: OptionName): string {
  const value = given[name]
  if (value !== undefined) return value
  throw new UsageError(`--${name} (or ${proxyOptions[name].variable}) is required with --control`)
}

function httpTokenOf(given: Given): string | null {
  const token = given['http-token']
  if (token === undefined) return null
  if (token.length >= tokenLengthMin && /^[\x21-\x7e]+$/.test(token)) return token
  throw new UsageError(
    `--http-token must consist of at least ${tokenLengthMin} visible ASCII characters, without spaces`,
  )
}

function hintUrlOf(given: Given): string | null {
  const url = given['hint-url']
  return url === undefined ? null : urlOf(url, '--hint-url')
}

function urlOf(text: string, option: string): string {
  const url = URL.parse(text)
  if (url !== null && (url.protocol === 'http:' || url.protocol === 'https:')) return text
  throw new UsageError(`${option} must be a URL that begins with http:// or https://`)
}

function nameOf(text: string, option: string): string {
  if (nameSchema.safeParse(text).success) return text
  throw new UsageError(`${option} must consist of at most 63 letters, digits, ".", "_" and "-"`)
}

function takeoverOf({ takeover }: Given): string | null {
  if (takeover === undefined) return null
  if (Buffer.byteLength(takeover) <= takeoverBytesMax) return takeover
  throw new UsageError(`--takeover must be a path of at most ${takeoverBytesMax} bytes`)
}

function workersOf(given: Given): number | null {
  const text = given.workers
  if (text === undefined) return null
  const { min, max } = generalKeys.workers
  if (/^\d{1,3}$/.test(text) && Number(text) >= min && Number(text) <= max) return Number(text)
  throw new UsageError(`--workers must be a number between ${min} and ${max}`)
}

function ioUringOf({ 'io-uring': text = 'auto' }: Given): boolean {
  if (text === 'auto' || text === 'off') return text === 'auto'
  throw new UsageError('--io-uring must be "auto" or "off"')
}

function portOf(given: Given, name: OptionName): number | null {
  const text = given[name]
  if (text === undefined) return null
  if (/^\d{1,5}$/.test(text) && Number(text) <= portMax) return Number(text)
  throw new UsageError(`--${name} must be a port between 0 and ${portMax}`)
}
