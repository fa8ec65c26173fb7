import { sqlstates } from '../../shared/errors.ts'
import { isUnix } from '../io/io.ts'
import type { Address } from '../io/io.ts'
import type { FromEngine } from '../port.ts'

/** Null if it was not sent yet. */
export interface Refused {
  readonly database: string | null
  readonly user: string | null
  readonly from: Address
}

/** Number of messages per period: an attacker who tries passwords, or all clients at once, must not fill the disk. */
const toldMax = 10
const periodMs = 10_000

/** Slightly more than PostgreSQL's limit for names: rejected clients choose it. */
const nameLengthMax = 64

/** Logs rejected and disconnected clients with the reason they were sent; of too many, only the number. */
export class Refusals {
  readonly #post: (message: FromEngine) => void
  #told = 0
  #untold = 0
  #periodEndMs = 0

  constructor(post: (message: FromEngine) => void) {
    this.#post = post
  }

  login(who: Refused, sqlstate: string, reason: string): void {
    this.#tell('login rejected', who, sqlstate, reason)
  }

  /** A client that had logged in. */
  client(who: Refused, sqlstate: string, reason: string): void {
    this.#tell('client disconnected', who, sqlstate, reason)
  }

  #tell(message: string, { database, user, from }: Refused, sqlstate: string, reason: string): void {
    // Disconnects by an operator are no warning.
    if (sqlstate === sqlstates.admin_shutdown) return
    if (this.#told === toldMax) {
      this.#untold++
      return
    }
    this.#told++
    const fields = { database: short(database), user: short(user), client: isUnix(from) ? 'unix' : from.host }
    this.#log(message, { ...fields, sqlstate, reason })
  }

  /** Called periodically. */
  maintain(nowMs: number): void {
    if (nowMs < this.#periodEndMs) return
    this.#periodEndMs = nowMs + periodMs
    if (this.#untold > 0) this.#log('further logins rejected or clients disconnected', { count: this.#untold })
    this.#told = 0
    this.#untold = 0
  }

  #log(message: string, fields: Readonly<Record<string, string | number | null>>): void {
    this.#post({ type: 'log', level: 'warn', message, fields })
  }
}

function short(name: string | null): string | null {
  return name?.slice(0, nameLengthMax) ?? null
}
