import type { PoolSettings } from '../../../shared/config/settings.ts'
import type { Io, Socket, TlsContext, TlsOptions } from '../../io/io.ts'
import * as write from '../../protocol/write.ts'
import type { Inbox } from '../../protocol/framing.ts'
import type { Exchange } from './conversation.ts'

interface SharedContext {
  readonly key: string
  readonly context: TlsContext
  holders: number
}

/** TLS contexts by their options: pools with equal options share one, and the last holder frees it. */
export class TlsContexts {
  readonly #io: Io
  readonly #shared = new Map<string, SharedContext>()

  constructor(io: Io) {
    this.#io = io
  }

  acquire(options: TlsOptions): TlsHold {
    const key = JSON.stringify(options)
    const known = this.#shared.get(key)
    if (known !== undefined) return this.#acquire(known)
    const shared = { key, context: this.#io.tlsContext(options), holders: 0 }
    this.#shared.set(key, shared)
    return this.#acquire(shared)
  }

  #acquire(counts: SharedContext): TlsHold {
    counts.holders++
    let held = true
    return {
      context: counts.context,
      again: () => this.#acquire(counts),
      release: () => {
        if (!held) return
        held = false
        counts.holders--
        if (counts.holders > 0) return
        counts.context.free()
        this.#shared.delete(counts.key)
      },
    }
  }
}

/** A reference to a context, to be given back by `release`. */
export interface TlsHold {
  readonly context: TlsContext
  again(): TlsHold
  release(): void
}

/** The server does not support TLS as required. The message is for operators. */
export class TlsRefused extends Error {
  override readonly name = 'TlsRefused'
}

/** How a connection to a server starts TLS. */
export interface ServerTls {
  readonly context: TlsContext
  readonly settings: Pick<PoolSettings, 'serverTlsSslmode' | 'serverTlsNegotiation'>
  /** The server's name as configured. */
  readonly host: string
  /** Plaintext is not allowed, whatever the settings say. */
  readonly required: boolean
}

/**
 * Starts TLS on a connection that was just opened (manual, "SSL Session Encryption"), if the server supports it and it
 * is wanted. Resumed by bytes and by onSecured. Throws TlsRefused; a failed handshake ends the socket instead.
 */
export function* secureServer(inbox: Inbox, socket: Socket, tls: ServerTls): Exchange<void> {
  const { serverTlsSslmode: mode, serverTlsNegotiation: negotiation } = tls.settings
  if (negotiation === 'postgres') {
    socket.send(sslRequest, 0, sslRequest.length)
    while (inbox.start === inbox.end) yield
    const answer = inbox.bytes[inbox.start]
    if (answer === answerError) throw new TlsRefused('the server responded to the SSLRequest with an error')
    // An attacker on the network could have sent it.
    if (inbox.end - inbox.start > 1) throw new TlsRefused('the server sent plaintext after accepting TLS')
    inbox.advanceTo(inbox.end)
    if (answer === answerNo) {
      if (!tls.required && (mode === 'prefer' || mode === 'allow')) return
      throw new TlsRefused(`the server does not support TLS, which server_tls_sslmode = "${mode}" requires`)
    }
    if (answer !== answerYes) throw new TlsRefused('unexpected response of the server to the SSLRequest')
  }
  socket.startTls(tls.context, { host: tls.host, verifyHost: mode === 'verify-full' })
  while (socket.tls === null) yield
  if (negotiation === 'direct' && socket.tls.alpn === null) {
    throw new TlsRefused('the server did not select an ALPN protocol: direct TLS requires PostgreSQL 17')
  }
}

const sslRequest = write.sslRequest()
const answerYes = 0x53
const answerNo = 0x4e
const answerError = 0x45
