/** How a connection to a server begins, for pools and for auth_query: TLS where it has to be, then the login. */
import { isUnix } from '../../io/io.ts'
import type { Address, Socket } from '../../io/io.ts'
import type { Inbox } from '../../protocol/framing.ts'
import type { Conversation, Exchange } from '../wire/conversation.ts'
import { secureServer } from '../wire/tls.ts'
import type { ServerTls } from '../wire/tls.ts'
import { LoginRefused, serverLogin } from './server-login.ts'
import type { Credentials, ServerLogin } from './server-login.ts'

/** SQLSTATE of a role that pg_hba.conf lets in by no such connection: without TLS, for one. */
const noEntry = '28000'

/** Bytes that arrive on the connection, as messages and before there are any. */
export interface Wire {
  readonly socket: Socket
  readonly inbox: Inbox
  readonly conversation: Conversation
}

export type SessionTls = Omit<ServerTls, 'required'>

/** Whether a connection to a server becomes TLS, and its login. As in libpq, one by a Unix socket never does. */
export class ServerSession {
  readonly #mode: ServerTls['settings']['serverTlsSslmode']
  readonly #isUnix: boolean
  #secures: boolean

  constructor(address: Address, mode: ServerTls['settings']['serverTlsSslmode']) {
    this.#mode = mode
    this.#isUnix = isUnix(address)
    this.#secures = mode !== 'disable' && mode !== 'allow' && !this.#isUnix
  }

  /**
   * From the connection to the first ReadyForQuery. Throws TlsRefused, LoginRefused with the server's own error, and
   * SqlError when the server does what we cannot answer.
   */
  *begin(wire: Wire, tls: SessionTls | null, credentials: Omit<Credentials, 'channel'>): Exchange<ServerLogin> {
    yield* this.secure(wire, tls)
    const channel = wire.socket.tls?.serverEndPoint ?? null
    return yield* serverLogin(wire.conversation, { ...credentials, channel })
  }

  /** What comes before the login. Throws TlsRefused. */
  *secure({ socket, inbox }: Pick<Wire, 'socket' | 'inbox'>, tls: SessionTls | null): Exchange<void> {
    if (this.#secures && tls !== null) yield* secureServer(inbox, socket, { ...tls, required: false })
  }

  /** `server_tls_sslmode = "allow"`: a server that refused plaintext may accept TLS, on another connection. */
  turnsToTls(error: unknown): boolean {
    if (!(error instanceof LoginRefused) || error.sqlstate !== noEntry) return false
    if (this.#secures || this.#mode !== 'allow' || this.#isUnix) return false
    this.#secures = true
    return true
  }
}
