import { readFile, stat } from 'node:fs/promises'
import type { GeneralSettings, PoolSettings } from '../../shared/config/settings.ts'
import type { FleetSpec, TlsUpdate } from '../spec.ts'
import type { TlsOptions } from '../io/io.ts'
import { OpensslContext, TlsOptionsError } from '../io/tls-context.ts'
import { ApplyError } from './failure.ts'
import { reasonOf, type Log } from './log.ts'

const fileBytesMax = 1024 * 1024

/** Keys for paths, or for lists that only OpenSSL can check, by option. */
type KeyOf = Readonly<Record<'certificate' | 'key' | 'ca' | 'ciphers' | 'tls13Ciphers', string>>

const clientKeys: KeyOf = {
  certificate: 'client_tls_cert_file',
  key: 'client_tls_key_file',
  ca: 'client_tls_ca_file',
  ciphers: 'client_tls_ciphers',
  tls13Ciphers: 'client_tls13_ciphers',
}
const serverKeys: KeyOf = {
  certificate: 'server_tls_cert_file',
  key: 'server_tls_key_file',
  ca: 'server_tls_ca_file',
  ciphers: 'server_tls_ciphers',
  tls13Ciphers: 'server_tls13_ciphers',
}

interface Wanted extends Omit<TlsOptions, 'certificate' | 'key' | 'ca'> {
  readonly certificateFile: string
  readonly keyFile: string
  readonly caFile: string
}

/**
 * Reads the TLS keys of one configuration, each file once: pools with equal keys get the same object. Everything is
 * checked with OpenSSL as the engine will use it. Throws an ApplyError `unusable_tls` with key, path and reason.
 */
export class TlsReader {
  readonly #texts = new Map<string, Promise<string>>()
  readonly #options = new Map<string, Promise<TlsOptions>>()

  async forClients(settings: GeneralSettings): Promise<TlsOptions | undefined> {
    const { clientTlsSslmode: mode } = settings
    if (mode === 'disable') return undefined
    const wanted: Wanted = {
      side: 'server',
      certificateFile: settings.clientTlsCertFile,
      keyFile: settings.clientTlsKeyFile,
      caFile: settings.clientTlsCaFile,
      peerRequired: mode === 'verify-ca' || mode === 'verify-full',
      minProtocol: settings.clientTlsMinProtocol,
      ciphers: settings.clientTlsCiphers,
      tls13Ciphers: settings.clientTls13Ciphers,
    }
    return await this.#shared(wanted, clientKeys)
  }

  async forServers(settings: PoolSettings): Promise<TlsOptions | undefined> {
    if (settings.serverTlsSslmode === 'disable') return undefined
    const wanted: Wanted = {
      side: 'client',
      certificateFile: settings.serverTlsCertFile,
      keyFile: settings.serverTlsKeyFile,
      caFile: settings.serverTlsCaFile,
      peerRequired: true,
      minProtocol: settings.serverTlsMinProtocol,
      ciphers: settings.serverTlsCiphers,
      tls13Ciphers: settings.serverTls13Ciphers,
    }
    return await this.#shared(wanted, serverKeys)
  }

  async #shared(wanted: Wanted, keys: KeyOf): Promise<TlsOptions> {
    const key = JSON.stringify(wanted)
    const known = this.#options.get(key)
    if (known !== undefined) return await known
    const made = this.#make(wanted, keys)
    this.#options.set(key, made)
    return await made
  }

  async #make({ certificateFile, keyFile, caFile, ...rest }: Wanted, keys: KeyOf): Promise<TlsOptions> {
    const [certificate, key, ca] = await Promise.all([
      this.#text(certificateFile, keys.certificate),
      this.#text(keyFile, keys.key),
      this.#text(caFile, keys.ca),
    ])
    const options: TlsOptions = { ...rest, certificate, key, ca }
    try {
      new OpensslContext(options).free()
      return options
    } catch (error) {
      if (!(error instanceof TlsOptionsError)) throw error
      const { part } = error
      const paths: Readonly<Record<string, string>> = { certificate: certificateFile, key: keyFile, ca: caFile }
      throw unusable(keys[part as keyof KeyOf], paths[part], reasonOf(error), error)
    }
  }

  async #text(path: string, key: string): Promise<string | null> {
    if (path === '') return null
    const known = this.#texts.get(path) ?? readFile(path, 'utf8')
    this.#texts.set(path, known)
    try {
      const text = await known
      if (text.length > fileBytesMax) throw new Error(`the file exceeds ${fileBytesMax} bytes`)
      return text
    } catch (error) {
      throw unusable(key, path, `could not be read: ${reasonOf(error)}`, error)
    }
  }
}

function unusable(key: string, path: string | undefined, reason: string, cause: unknown): ApplyError {
  const named = path === undefined ? key : `${key} = "${path}"`
  return new ApplyError('unusable_tls', `${named}: ${reason}`, { cause })
}

export interface TlsWatchOptions {
  readonly everyMs: number
  readonly log: Log
  readonly running: () => FleetSpec | undefined
  /** Files have changed and are valid. */
  readonly onChange: (update: TlsUpdate) => void
  /** The files were read: why they cannot be used, or null. */
  readonly onChecked?: (fault: string | null) => void
}

/**
 * Watches the files of the running configuration: checks them every `everyMs`, and reloads them when one has changed.
 * Invalid files change nothing, for instance half of a renewed pair until the other half arrives.
 */
export class TlsWatch {
  readonly #options: TlsWatchOptions
  #timer: NodeJS.Timeout | undefined
  /** State of the files when they were last read. */
  #seen = ''
  #checking: Promise<string | null> | undefined
  #stopped = false

  constructor(options: TlsWatchOptions) {
    this.#options = options
  }

  start(): void {
    if (this.#stopped || this.#timer !== undefined) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      void this.#look().finally(() => this.start())
    }, this.#options.everyMs)
    this.#timer.unref()
  }

  stop(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
  }

  async #look(): Promise<void> {
    const spec = this.#options.running()
    if (spec === undefined) return
    const seen = await signatureOf(pathsOf(spec))
    if (seen !== this.#seen) await this.check()
  }

  /** Reads all files now. Resolves with the error, or null if they are in use. */
  async check(): Promise<string | null> {
    this.#checking ??= this.#check()
      .then((fault) => {
        this.#options.onChecked?.(fault)
        return fault
      })
      .finally(() => {
        this.#checking = undefined
      })
    return await this.#checking
  }

  async #check(): Promise<string | null> {
    const { running, onChange, log } = this.#options
    const spec = running()
    if (spec === undefined) return null
    const paths = pathsOf(spec)
    if (paths.length === 0) return null
    this.#seen = await signatureOf(paths)
    try {
      const update = await read(spec)
      // A version applied meanwhile has read its files itself; unchanged content needs no update.
      if (running()?.position !== spec.position || !differs(update, spec)) return null
      log('info', 'certificates reloaded', { files: paths.join(', ') })
      onChange(update)
      return null
    } catch (error) {
      const reason = reasonOf(error)
      log('error', 'could not reload certificates; the former ones stay in use', { reason })
      return reason
    }
  }
}

async function read(spec: FleetSpec): Promise<TlsUpdate> {
  const reader = new TlsReader()
  const pools: TlsUpdate['pools'][number][] = []
  for (const { database: pool, user, settings } of spec.pools) {
    const serverTls = await reader.forServers(settings)
    if (serverTls !== undefined) pools.push({ database: pool, user, serverTls })
  }
  return { clientTls: await reader.forClients(spec.general), pools }
}

function differs(update: TlsUpdate, spec: FleetSpec): boolean {
  const texts = (options: readonly (TlsOptions | undefined)[]): Set<string> =>
    new Set([...new Set(options)].map((one) => JSON.stringify(one)))
  const before = texts([spec.clientTls, ...spec.pools.map(({ serverTls }) => serverTls)])
  const after = texts([update.clientTls, ...update.pools.map(({ serverTls }) => serverTls)])
  return [...after].some((text) => !before.has(text))
}

/** The running configuration after the update. */
export function withTls(spec: FleetSpec, update: TlsUpdate): FleetSpec {
  const fresh = new Map(
    update.pools.map(({ database: pool, user, serverTls }) => [JSON.stringify([pool, user]), serverTls]),
  )
  return {
    ...spec,
    ...(update.clientTls === undefined ? {} : { clientTls: update.clientTls }),
    pools: spec.pools.map((pool) => {
      const serverTls = fresh.get(JSON.stringify([pool.database, pool.user]))
      return serverTls === undefined ? pool : { ...pool, serverTls }
    }),
  }
}

function pathsOf({ general, pools }: FleetSpec): string[] {
  const paths = new Set<string>()
  if (general.clientTlsSslmode !== 'disable') {
    for (const path of [general.clientTlsCertFile, general.clientTlsKeyFile, general.clientTlsCaFile]) paths.add(path)
  }
  for (const { settings } of pools) {
    if (settings.serverTlsSslmode === 'disable') continue
    for (const path of [settings.serverTlsCertFile, settings.serverTlsKeyFile, settings.serverTlsCaFile]) {
      paths.add(path)
    }
  }
  paths.delete('')
  return [...paths].sort()
}

/** Changes with any of the files, also when a symbolic link changes. */
async function signatureOf(paths: readonly string[]): Promise<string> {
  const parts = paths.map(async (path) => {
    try {
      const { ino, size, mtimeMs } = await stat(path)
      return `${path} ${ino} ${size} ${mtimeMs}`
    } catch {
      return `${path} missing`
    }
  })
  return (await Promise.all(parts)).join('\n')
}
