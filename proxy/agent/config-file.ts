import { readFile } from 'node:fs/promises'
import { readDocument, noSecrets } from '../../shared/config/document.ts'
import { effectiveGeneral, effectivePools } from '../../shared/config/effective.ts'
import { parseToml } from '../../shared/config/text.ts'
import { hashOf, poolHashes } from '../../shared/hash.ts'
import type { Position } from '../../shared/wire.ts'
import type { Applier } from './applier.ts'
import { ApplyError } from './failure.ts'
import { reasonOf } from './log.ts'
import type { Offer, OfferedPool } from './offer.ts'

/** A proxy without control has no store that could be restored. */
const fileEpoch = 1
const fileBytesMax = 4 * 1024 * 1024

/**
 * Runs a proxy from a file alone. The version counts the contents that came to run; a file that cannot be used leaves
 * the running one alone.
 */
export class ConfigFile {
  readonly #path: string
  readonly #applier: Applier
  #version = 0
  /** Of the content that runs. */
  #runningHash: string | undefined
  /** Of the content that was last made a candidate. */
  #candidateHash: string | undefined

  constructor(path: string, applier: Applier) {
    this.#path = path
    this.#applier = applier
  }

  /** Reads the file and makes it run. Resolves with path and reason when it does not; null when it does. */
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
    if (text.length > fileBytesMax) throw new Error(`the file is longer than ${fileBytesMax} bytes`)
    const document = readDocument(parseToml(text), noSecrets)
    const general = effectiveGeneral(document)
    const pools = effectivePools(document).map((body): OfferedPool => {
      const hashes = poolHashes(body)
      return { hash: hashes.hash, connectHash: hashes.connect_hash, body }
    })
    return { general: general.settings, consoleUsers: general.console_users, pools }
  }

  async #apply(content: Omit<Offer, 'position'>): Promise<ApplyError | null> {
    const contentHash = hashOf(content)
    // Nothing differs from what was tried last: either it runs, or the cause of its failure may have gone.
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
    return await this.#applier.apply({ position, pools, load, force: true })
  }

  /** A candidate came to run. */
  applied(position: Position): void {
    this.#version = position.version
    this.#runningHash = this.#candidateHash
  }

  #position(version: number): Position {
    return { epoch: fileEpoch, version }
  }
}
