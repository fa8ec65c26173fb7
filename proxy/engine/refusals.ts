import { sqlstates } from '../../shared/errors.ts'
import { isUnix } from '../io/io.ts'
import type { Address } from '../io/io.ts'
import type { FromEngine } from '../port.ts'

/** Null where it had not said that yet. */
export interface Refused {
  readonly database: string | null
  readonly user: string | null
  readonly from: Address
}

/** So many are told one by one in each period: whoever tries passwords, or all clients at once, do not fill a disk. */
const toldMax = 10
const periodMs = 10_000

/** As long as PostgreSQL lets a name be, or a little longer: whoever is refused chooses it. */
const nameLengthMax = 64

/** Tells the log whom this proxy sends away and why, as they are told; of those that are too many, how many there were. */
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

  /** One that had logged in. */
  client(who: Refused, sqlstate: string, reason: string): void {
    this.#tell('client disconnected', who, sqlstate, reason)
  }

  #tell(message: string, { database, user, from }: Refused, sqlstate: string, reason: string): void {
    // What an operator has ended needs no warning.
    if (sqlstate === sqlstates.admin_shutdown) return
    if (this.#told === toldMax) {
      this.#untold++
      return
    }
    this.#told++
    const fields = { database: short(database), user: short(user), client: isUnix(from) ? 'unix' : from.host }
    this.#log(message, { ...fields, sqlstate, reason })
  }

  /** Called again and again. */
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
