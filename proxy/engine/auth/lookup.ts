import type { Socket } from '../../io/io.ts'
import type { Exchange } from '../wire/conversation.ts'
import type { ClientSecret } from '../../spec.ts'
import type { AuthSource } from './auth-query.ts'

/** The auth_query of one login; does nothing if its pool does not use auth_query. */
export class Lookup {
  readonly #source: AuthSource | null
  readonly #user: string
  readonly #socket: Socket
  readonly #wake: () => void

  /** `wake` resumes the login, if it still exists. */
  constructor(source: AuthSource | null, user: string, socket: Socket, wake: () => void) {
    this.#source = source
    this.#user = user
    this.#socket = socket
    this.#wake = wake
  }

  /** Null without auth_query. Throws SqlError if the lookup fails. */
  *find(): Exchange<ClientSecret | null> {
    return this.#source === null ? null : yield* this.#withoutReading(this.#source.find(this.#user, this.#wake))
  }

  /** After a wrong proof; null if there is no reason to query again. */
  *again(): Exchange<ClientSecret | null> {
    return this.#source === null ? null : yield* this.#withoutReading(this.#source.again(this.#user, this.#wake))
  }

  /** The secret of a known user, like which unknown users are challenged. */
  get like(): ClientSecret | null {
    return this.#source?.like ?? null
  }

  /** The client is not read meanwhile: its bytes are kept for later. */
  *#withoutReading(query: Exchange<ClientSecret | null>): Exchange<ClientSecret | null> {
    this.#socket.pauseReading()
    const secret = yield* query
    this.#socket.resumeReading()
    return secret
  }
}
