import { readFile } from 'node:fs/promises'
import { readDocument, noSecrets } from '../../shared/config/document.ts'
import { effectiveGeneral, effectivePools } from '../../shared/config/effective.ts'
import { newestFormat } from '../../shared/config/formats.ts'
import { unusedValues } from '../../shared/config/shared-servers.ts'
import { parseToml } from '../../shared/config/text.ts'
import { hashOf, poolHashes } from '../../shared/hash.ts'
import type { Position } from '../../shared/wire.ts'
import type { Applier } from './applier.ts'
import { ApplyError } from './failure.ts'
import { reasonOf } from './log.ts'
import type { Log } from './log.ts'
import type { Offer, OfferedPool } from './offer.ts'

/** Without control there is no store that could be restored. */
const fileEpoch = 1
const fileBytesMax = 4 * 1024 * 1024

/**
 * Runs a proxy from a file. The version counts the contents that were applied; an invalid file does not affect the
 * running one.
 */
export class ConfigFile {
  readonly #path: string
  readonly #applier: Applier
  readonly #log: Log
  #version = 0
  /** Hash of the running content. */
  #runningHash: string | undefined
  /** Hash of the last candidate's content. */
  #candidateHash: string | undefined

  constructor(path: string, applier: Applier, log: Log) {
    this.#path = path
    this.#applier = applier
    this.#log = log
  }

  /** Reads and applies the file. Resolves with path and reason if that fails, otherwise with null. */
  async reload(): Promise<string | null> {
    try {
      const content = await this.#read()
      const refused = await this.#apply(content)
      return refused === null ? null : `${this.#path}: ${refused.sentence}`
    } catch (error) {
      const refusal = new ApplyError('invalid_configuration', reasonOf(error), { cause: error })
      this.#candidateHash = undefined
      await this.#applier.refuse(this.#position(this.#version + 1), refusal)
      return `${this.#path}: ${refusal.sentence}`
    }
  }

  async #read(): Promise<Omit<Offer, 'position'>> {
    const text = await readFile(this.#path, 'utf8')
    if (text.length > fileBytesMax) throw new Error(`the file exceeds ${fileBytesMax} bytes`)
    const document = readDocument(parseToml(text), noSecrets)
    for (const { path, message } of unusedValues(document)) this.#log('warn', `${path}: ${message}`)
    const general = effectiveGeneral(document)
    const pools = effectivePools(document).map((body): OfferedPool => {
      const hashes = poolHashes(body)
      return { hash: hashes.hash, connectHash: hashes.connect_hash, body }
    })
    return { general: general.settings, consoleUsers: general.console_users, pools }
  }

  async #apply(content: Omit<Offer, 'position'>): Promise<ApplyError | null> {
    const contentHash = hashOf(content)
    // Same content as the last attempt: it runs already, or the cause of its failure may have passed.
    if (contentHash === this.#candidateHash) return await this.#applier.retry()
    this.#candidateHash = contentHash
    const position = this.#position(contentHash === this.#runningHash ? this.#version : this.#version + 1)
    const pools = content.pools.map(({ hash, connectHash, body }) => ({
      pool: body.pool,
      user: body.user,
      hash,
      connect_hash: connectHash,
    }))
    const load = async (): Promise<Offer> => await Promise.resolve({ position, ...content })
    return await this.#applier.apply({ position, format: newestFormat, pools, load, force: true })
  }

  /** A candidate was applied. */
  applied(position: Position): void {
    this.#version = position.version
    this.#runningHash = this.#candidateHash
  }

  #position(version: number): Position {
    return { epoch: fileEpoch, version }
  }
}
