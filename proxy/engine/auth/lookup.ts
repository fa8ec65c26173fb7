import type { Socket } from '../../io/io.ts'
import type { Exchange } from '../wire/conversation.ts'
import type { ClientSecret } from '../../spec.ts'
import type { AuthSource } from './auth-query.ts'

/** What one login asks auth_query; nothing where its pool knows its clients itself. */
export class Lookup {
  readonly #source: AuthSource | null
  readonly #user: string
  readonly #socket: Socket
  readonly #wake: () => void

  /** `wake` resumes the login, if it is still there. */
  constructor(source: AuthSource | null, user: string, socket: Socket, wake: () => void) {
    this.#source = source
    this.#user = user
    this.#socket = socket
    this.#wake = wake
  }

  /** Null where nobody is looked up. Throws SqlError when nobody can be. */
  *find(): Exchange<ClientSecret | null> {
    return this.#source === null ? null : yield* this.#patiently(this.#source.find(this.#user, this.#wake))
  }

  /** After a wrong proof; null where that is no reason to ask. */
  *again(): Exchange<ClientSecret | null> {
    return this.#source === null ? null : yield* this.#patiently(this.#source.again(this.#user, this.#wake))
  }

  /** The secret of somebody who was found: whoever does not exist is asked as that one. */
  get like(): ClientSecret | null {
    return this.#source?.like ?? null
  }

  /** What the client sends meanwhile is kept for later. */
  *#patiently(question: Exchange<ClientSecret | null>): Exchange<ClientSecret | null> {
    this.#socket.pauseReading()
    const secret = yield* question
    this.#socket.resumeReading()
    return secret
  }
}
