import { parseArgs } from 'node:util'
import { generalKeys } from '../../shared/config/keys.ts'
import { nameSchema } from '../../shared/wire.ts'
import type { AgentSettings, SourceSettings } from './agent.ts'

/** The command line or environment is not usable. The message is for whoever typed it. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

interface Option {
  /** Read where the option is not given. */
  readonly variable: string
  readonly value: string
  readonly help: string
}

/** Every setting of a proxy process; the rest is in the fleet's configuration. */
export const proxyOptions = {
  control: { variable: 'FLOTILLA_CONTROL', value: 'URL', help: 'control plane, such as http://127.0.0.1:8080' },
  fleet: { variable: 'FLOTILLA_FLEET', value: 'NAME', help: 'fleet this proxy belongs to' },
  token: {
    variable: 'FLOTILLA_PROXY_TOKEN',
    value: 'TOKEN',
    help: "the fleet's proxy token; better given by the variable, which other users cannot see",
  },
  config: { variable: 'FLOTILLA_CONFIG', value: 'FILE', help: 'run from this file alone, without a control plane' },
  state: {
    variable: 'FLOTILLA_STATE',
    value: 'DIR',
    help: 'folder for what outlives the process (default flotilla-state; with --config, none)',
  },
  id: { variable: 'FLOTILLA_PROXY_ID', value: 'NAME', help: 'name of this proxy (default: made once and kept)' },
  'listen-host': {
    variable: 'FLOTILLA_LISTEN_HOST',
    value: 'HOST',
    help: "address for clients (default: general.listen_host of the fleet's configuration)",
  },
  'listen-port': {
    variable: 'FLOTILLA_LISTEN_PORT',
    value: 'PORT',
    help: "port for clients (default: general.listen_port of the fleet's configuration)",
  },
  takeover: {
    variable: 'FLOTILLA_TAKEOVER',
    value: 'SOCKET',
    help: 'Unix socket by which a process that starts takes the listener of the one that runs (default: none)',
  },
  workers: {
    variable: 'FLOTILLA_WORKERS',
    value: 'COUNT',
    help: "engine threads (default: general.workers of the fleet's configuration)",
  },
  'io-uring': {
    variable: 'FLOTILLA_IO_URING',
    value: 'auto|off',
    help: 'whether sends leave together by io_uring, where the kernel allows it (default auto)',
  },
  'http-host': {
    variable: 'FLOTILLA_HTTP_HOST',
    value: 'HOST',
    help: 'address for hints, health and metrics (default 127.0.0.1)',
  },
  'http-port': {
    variable: 'FLOTILLA_HTTP_PORT',
    value: 'PORT',
    help: 'port for hints, health and metrics (default 9930)',
  },
  'http-token': {
    variable: 'FLOTILLA_HTTP_TOKEN',
    value: 'TOKEN',
    help: 'by which this proxy takes operations on that port: POST /v1/pools/{pool}/pause and the like, /v1/reload (default: none may)',
  },
  'hint-url': {
    variable: 'FLOTILLA_HINT_URL',
    value: 'URL',
    help: 'where control reaches that port from its side, such as http://10.0.0.7:9930 (default: no hints)',
  },
  'peer-host': {
    variable: 'FLOTILLA_PEER_HOST',
    value: 'HOST',
    help: 'where other proxies of the fleet reach this one, to pass on cancel requests (default: the address it listens on, or the host of --hint-url)',
  },
  region: { variable: 'FLOTILLA_REGION', value: 'NAME', help: 'where this proxy runs, shown to operators' },
} as const satisfies Record<string, Option>

type OptionName = keyof typeof proxyOptions
type Given = Readonly<Partial<Record<OptionName, string>>>

const defaultHttpHost = '127.0.0.1'
const defaultHttpPort = 9930
const defaultStateFolder = 'flotilla-state'
const portMax = 65535
const regionLengthMax = 64
const tokenLengthMin = 16
/** A Unix socket's path has 107 at most, and that of the cancel sockets is longer by as much as 17. */
const takeoverBytesMax = 90

/** Settings from the words after `flotilla proxy` and the environment. Throws a UsageError. */
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
  // Words outrank the environment also where they say another way to run.
  if (values['control'] !== undefined && values['config'] === undefined) delete given.config
  if (values['config'] !== undefined && values['control'] === undefined) delete given.control
  return given
}

function sourceOf(given: Given): SourceSettings {
  if (given.config !== undefined && given.control !== undefined) {
    throw new UsageError('--config runs without a control plane; give either --config or --control')
  }
  if (given.config !== undefined) {
    return { kind: 'file', path: given.config, ...(given.state === undefined ? {} : { stateFolder: given.state }) }
  }
  if (given.control === undefined) {
    throw new UsageError('say where the configuration comes from: --control URL (with --fleet) or --config FILE')
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
  throw new UsageError(`--${name} (or ${proxyOptions[name].variable}) is needed with --control`)
}

function httpTokenOf(given: Given): string | null {
  const token = given['http-token']
  if (token === undefined) return null
  if (token.length >= tokenLengthMin && /^[\x21-\x7e]+$/.test(token)) return token
  throw new UsageError(`--http-token must be at least ${tokenLengthMin} visible ASCII characters, without spaces`)
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
  throw new UsageError(`${option} must be letters, digits, ".", "_" and "-", at most 63 of them`)
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
