import type { CloseCause, Socket, SocketEvents, Timer } from '../../io/io.ts'
import { Inbox } from '../../protocol/framing.ts'
import type { PoolSpec } from '../../spec.ts'
import { ServerSession } from '../auth/server-session.ts'
import { causeOf } from '../pool/close-cause.ts'
import type { Context } from '../pool/context.ts'
import { targetsOf, tcpOptionsOf } from '../pool/target.ts'
import type { Target } from '../pool/target.ts'
import type { Exchange } from '../wire/conversation.ts'
import { TlsRefused } from '../wire/tls.ts'
import type { TlsHold } from '../wire/tls.ts'
import { Round } from './verdict.ts'
import type { Addresses, Attempt, TargetFailure, Verdict } from './verdict.ts'

/**
 * Connects, with TLS where it has to be, and leaves before a login: for servers whose database, role or keys are not known
 * before a client comes.
 */
export class Reach implements Attempt, SocketEvents {
  readonly #context: Context
  readonly #spec: PoolSpec
  readonly #tls: TlsHold | null
  readonly #round: Round
  readonly #report: (verdict: Verdict) => void
  readonly #inbox = new Inbox()
  #target: Target | null = null
  #socket: Socket | null = null
  #exchange: Exchange<void> | null = null
  #timer: Timer
  #over = false

  constructor(context: Context, spec: PoolSpec, addresses: Addresses, report: (verdict: Verdict) => void) {
    this.#context = context
    this.#spec = spec
    this.#tls = spec.serverTls === undefined ? null : context.tls.acquire(spec.serverTls)
    this.#round = new Round(targetsOf(spec), addresses)
    this.#report = report
    this.#timer = context.io.after(0, () => this.#next())
  }

  #next(): void {
    this.#target = this.#round.next()
    if (this.#target === null) {
      this.#conclude(this.#round.verdict('a connection'))
      return
    }
    const { io } = this.#context
    const { settings } = this.#spec
    const { connectTimeoutMs } = settings
    this.#timer.cancel()
    this.#timer = io.after(connectTimeoutMs, () => {
      this.#failed({ cause: 'connect_timeout', message: `not connected within ${connectTimeoutMs} ms` })
    })
    const address = { host: this.#target.address, port: this.#target.host.port }
    this.#exchange = this.#secure(new ServerSession(address, settings.serverTlsSslmode), this.#target)
    this.#socket = io.connect(address, tcpOptionsOf(settings), this)
  }

  *#secure(session: ServerSession, target: Target): Exchange<void> {
    // Set by now: this runs from the first event of the socket on.
    const socket = this.#socket as Socket
    const tls =
      this.#tls === null ? null : { context: this.#tls.context, settings: this.#spec.settings, host: target.host.host }
    yield* session.secure({ socket, inbox: this.#inbox }, tls)
    this.#conclude(this.#round.serves(target))
  }

  onConnect(): void {
    this.#resume()
  }

  onSecured(): void {
    this.#resume()
  }

  onData(bytes: Uint8Array, start: number, end: number): number {
    const socket = this.#socket
    this.#inbox.open(bytes, start, end)
    this.#resume()
    const next = this.#inbox.start
    this.#inbox.close()
    return this.#over || this.#socket !== socket ? end : next
  }

  onDrain(): void {}

  onClose(cause: CloseCause): void {
    this.#failed({ cause: causeOf(cause, false), errno: cause.errno, message: cause.reason ?? null })
  }

  #resume(): void {
    if (this.#over) return
    try {
      this.#exchange?.next()
    } catch (error) {
      if (!(error instanceof TlsRefused)) throw error
      this.#failed({ cause: 'tls_failed', message: error.message })
    }
  }

  #failed(failure: Pick<TargetFailure, 'cause' | 'message'> & { readonly errno?: string | null }): void {
    if (this.#over || this.#target === null) return
    this.#socket?.close()
    this.#round.failed(this.#target, { errno: null, sqlstate: null, ...failure })
    this.#next()
  }

  #conclude(verdict: Verdict): void {
    this.end()
    this.#report(verdict)
  }

  end(): void {
    if (this.#over) return
    this.#over = true
    this.#timer.cancel()
    this.#socket?.close()
    this.#tls?.release()
  }
}
