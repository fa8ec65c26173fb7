import { mkdir, open, readFile, rename, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { comparePositions } from '../../shared/position.ts'
import { bootSchema, manifestSchema, nameSchema, peersSchema } from '../../shared/wire.ts'
import type { Manifest, Peer, Position } from '../../shared/wire.ts'
import { privateFileMode, replaceFile } from './atomic-file.ts'
import { reasonOf, type Log } from './log.ts'
import { tryLock } from './libc.ts'
import { processSettings } from './process-settings.ts'
import type { ProcessSettings } from './process-settings.ts'
import { Seal } from './seal.ts'

/** The last version that the proxy ran, complete: it starts with it if control does not answer. */
export interface LastKnownGood {
  readonly etag: string | null
  /** In format 1, so that the release before and the one after start from it too. */
  readonly manifest: Manifest
  /** The manifest as control has sent it, if that is another one. */
  readonly offered?: Manifest
  /** Pool bodies of `manifest`, by hash. Verified again when used. */
  readonly bodies: Readonly<Record<string, unknown>>
  /** `name@version` → value. */
  readonly secrets: Readonly<Record<string, string>>
  /** Addresses of names, for a start without DNS. */
  readonly addresses: Readonly<Record<string, readonly string[]>>
}

const format = 1

const fileSchema = z.object({
  format: z.literal(format),
  fleet: z.string(),
  etag: z.string().nullable(),
  manifest: manifestSchema,
  // One that this release cannot read is not needed: `manifest` is complete.
  offered: manifestSchema.optional().catch(undefined),
  bodies: z.record(z.string(), z.unknown()),
  salt: z.string(),
  sealed_secrets: z.record(z.string(), z.string()),
  addresses: z.record(z.string(), z.array(z.string())),
})

const processSettingsSchema = z.object({
  listenHost: z.string(),
  listenPort: z.int().min(0).max(65535),
  unixSocketDir: z.string(),
  unixSocketMode: z.string(),
  workers: z.int().min(1),
})

const peersFileSchema = peersSchema.extend({ format: z.literal(format), fleet: z.string() })

/** Another process holds the directory, or it cannot be used. The message is for the operator. */
class StateFolderError extends Error {
  override readonly name = 'StateFolderError'
}

const folderMode = 0o700

export const mockKeyBytes = 32

/**
 * The directory that a proxy keeps between runs: `proxy-id`, `boot`, `mock-key`, `last-known-good.json`, `peers.json`,
 * `outbox.log`. A file that is damaged or belongs to another fleet or token is skipped with one warning. One process at
 * a time holds the directory. Of last-known-good there are two generations: where the newer one cannot be read, the version
 * before it is used.
 */
export class StateFolder {
  readonly #path: string
  readonly #log: Log
  readonly #lock: FileHandle
  /** What `last-known-good.json` contains; null if it is missing or cannot be used. */
  #saved: Position | null = null

  private constructor(path: string, lock: FileHandle, log: Log) {
    this.#path = path
    this.#lock = lock
    this.#log = log
  }

  /** Creates the directory if missing. Throws a StateFolderError. */
  static async open(path: string, log: Log): Promise<StateFolder> {
    const lock = await openLock(path)
    if (tryLock(lock.fd)) return new StateFolder(path, lock, log)
    await lock.close()
    throw new StateFolderError(`the state directory ${path} is in use by another proxy`)
  }

  get outboxPath(): string {
    return join(this.#path, 'outbox.log')
  }

  /** The stored name, or the result of `make`, which is stored. */
  async proxyId(make: () => string): Promise<string> {
    const path = join(this.#path, 'proxy-id')
    const kept = nameSchema.safeParse((await this.#read(path))?.trim())
    if (kept.success) return kept.data
    const made = make()
    await replaceFile(path, `${made}\n`)
    return made
  }

  /** Stores the id of this process. Returns that of the one before; null if unknown. */
  async exchangeBoot(boot: string, onWritten: (fault: string | null) => void): Promise<string | null> {
    const path = join(this.#path, 'boot')
    const kept = bootSchema.safeParse((await this.#read(path))?.trim())
    try {
      await replaceFile(path, `${boot}\n`)
      onWritten(null)
    } catch (error) {
      onWritten(reasonOf(error))
    }
    return kept.success && kept.data !== boot ? kept.data : null
  }

  /** The stored mock secret, or the result of `make`, which is stored. */
  async mockKey(make: () => Uint8Array): Promise<Uint8Array> {
    const kept = Buffer.from((await this.#read(this.#mockKeyPath)) ?? '', 'base64')
    if (kept.length === mockKeyBytes) return kept
    const made = make()
    await this.saveMockKey(made)
    return made
  }

  async saveMockKey(key: Uint8Array): Promise<void> {
    await replaceFile(this.#mockKeyPath, `${Buffer.from(key).toString('base64')}\n`)
  }

  async saveLastKnownGood(fleet: string, token: string, good: LastKnownGood): Promise<void> {
    const seal = new Seal(token)
    const sealed = Object.entries(good.secrets).map(([key, value]) => [key, seal.close(`${fleet}/${key}`, value)])
    const content: z.input<typeof fileSchema> = {
      format,
      fleet,
      etag: good.etag,
      manifest: good.manifest,
      ...(good.offered === undefined ? {} : { offered: good.offered }),
      bodies: { ...good.bodies },
      salt: seal.salt,
      sealed_secrets: Object.fromEntries(sealed) as Record<string, string>,
      addresses: Object.fromEntries(Object.entries(good.addresses).map(([host, list]) => [host, [...list]])),
    }
    // The same version may be saved again, with other addresses.
    const isOther = this.#saved !== null && comparePositions(this.#saved, good.manifest) !== 0
    if (isOther) {
      await rename(this.#lastKnownGoodPath, this.#formerGoodPath)
      // Should the write fail, the next attempt has nothing to rename.
      this.#saved = null
    }
    await replaceFile(this.#lastKnownGoodPath, `${JSON.stringify(content)}\n`)
    const { epoch, version } = good.manifest
    this.#saved = { epoch, version }
  }

  /** Undefined if there is none that can be used. */
  async readLastKnownGood(fleet: string, token: string): Promise<LastKnownGood | undefined> {
    const good = await this.#readGood(this.#lastKnownGoodPath, fleet, token)
    this.#saved = good?.manifest ?? null
    return good ?? (await this.#readGood(this.#formerGoodPath, fleet, token))
  }

  async #readGood(path: string, fleet: string, token: string): Promise<LastKnownGood | undefined> {
    const text = await this.#read(path)
    if (text === undefined) return undefined
    const parsed = fileSchema.safeParse(jsonOrUndefined(text))
    if (!parsed.success) return this.#passOver(path, isOfLaterRelease(text) ? 'is of a later release' : 'is damaged')
    if (parsed.data.fleet !== fleet) return this.#passOver(path, `belongs to the fleet ${parsed.data.fleet}`)
    const { etag, manifest, offered, bodies, addresses, salt, sealed_secrets: sealed } = parsed.data
    const secrets = this.#openSecrets(fleet, new Seal(token, salt), sealed)
    return { etag, manifest, ...(offered === undefined ? {} : { offered }), bodies, addresses, secrets }
  }

  async savePeers(fleet: string, peers: readonly Peer[]): Promise<void> {
    const content: z.input<typeof peersFileSchema> = { format, fleet, peers: [...peers] }
    await replaceFile(this.#peersPath, `${JSON.stringify(content)}\n`)
  }

  /** The last known proxies of the fleet; undefined if unknown. */
  async readPeers(fleet: string): Promise<readonly Peer[] | undefined> {
    const text = await this.#read(this.#peersPath)
    if (text === undefined) return undefined
    const parsed = peersFileSchema.safeParse(jsonOrUndefined(text))
    if (!parsed.success) return this.#passOver(this.#peersPath, 'is damaged')
    return parsed.data.fleet === fleet ? parsed.data.peers : undefined
  }

  /** With which the proxy has started. */
  async saveProcessSettings(settings: ProcessSettings): Promise<void> {
    await replaceFile(this.#processSettingsPath, `${JSON.stringify({ format, ...settings })}\n`)
  }

  /** Undefined if unknown. */
  async readProcessSettings(): Promise<ProcessSettings | undefined> {
    const text = await this.#read(this.#processSettingsPath)
    if (text === undefined) return undefined
    const parsed = processSettingsSchema.safeParse(jsonOrUndefined(text))
    if (!parsed.success) return this.#passOver(this.#processSettingsPath, 'is damaged')
    return processSettings(parsed.data)
  }

  async close(): Promise<void> {
    await this.#lock.close()
  }

  get #mockKeyPath(): string {
    return join(this.#path, 'mock-key')
  }

  get #processSettingsPath(): string {
    return join(this.#path, 'process-settings.json')
  }

  get #peersPath(): string {
    return join(this.#path, 'peers.json')
  }

  get #lastKnownGoodPath(): string {
    return join(this.#path, 'last-known-good.json')
  }

  get #formerGoodPath(): string {
    return join(this.#path, 'last-known-good.former.json')
  }

  #openSecrets(fleet: string, seal: Seal, sealed: Readonly<Record<string, string>>): Record<string, string> {
    const secrets: Record<string, string> = {}
    for (const [key, value] of Object.entries(sealed)) {
      const opened = seal.open(`${fleet}/${key}`, value)
      if (opened !== undefined) secrets[key] = opened
    }
    const lost = Object.keys(sealed).length - Object.keys(secrets).length
    if (lost > 0) {
      this.#log('warn', 'stored secrets were sealed with another token; they must be fetched again', { lost })
    }
    return secrets
  }

  #passOver(path: string, fault: string): undefined {
    this.#log('warn', `a file in the state directory ${fault}; continuing without it`, { path })
    return undefined
  }

  /** Undefined if the file does not exist or cannot be read. */
  async #read(path: string): Promise<string | undefined> {
    try {
      return await readFile(path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      return this.#passOver(path, `could not be read (${reasonOf(error)})`)
    }
  }
}

async function openLock(path: string): Promise<FileHandle> {
  try {
    await mkdir(path, { recursive: true, mode: folderMode })
    return await open(join(path, 'lock'), 'a', privateFileMode)
  } catch (error) {
    throw new StateFolderError(`could not use the state directory ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

const otherFormatSchema = z.object({ format: z.int().min(format + 1) })

function isOfLaterRelease(text: string): boolean {
  return otherFormatSchema.safeParse(jsonOrUndefined(text)).success
}

function jsonOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
