/**
 * The border between the engine and the world. The engine core is written against this interface and sees no file
 * descriptor, clock or randomness of its own, so that the same core runs on epoll (the product) and on the simulator
 * (tests: virtual clock, seeded faults).
 *
 * Everything is synchronous: a callback runs to its end before the next one starts, on one thread.
 */

/**
 * `host` is an IPv4 or IPv6 literal; or a folder that begins with "/", as in libpq: then this is the Unix socket there
 * whose name has the port, `.s.PGSQL.<port>`.
 */
export interface Address {
  readonly host: string
  readonly port: number
}

export function isUnix({ host }: Address): boolean {
  return host.startsWith('/')
}

/** tcp(7) socket options; Unix sockets have none of them. Milliseconds, rounded up to whole seconds where the kernel counts in seconds. */
export interface TcpOptions {
  readonly keepaliveIdleMs: number
  readonly keepaliveIntervalMs: number
  readonly keepaliveCount: number
  /** 0 leaves it to the kernel (tcp_retries2, about 15 minutes). */
  readonly userTimeoutMs: number
}

/**
 * Why a socket ended, as far as the operating system can tell.
 *   eof          the peer closed its side in order
 *   reset        ECONNRESET or EPIPE
 *   refused      ECONNREFUSED while connecting
 *   unreachable  EHOSTUNREACH, ENETUNREACH, EHOSTDOWN …
 *   keepalive    ETIMEDOUT with nothing unacknowledged: probes stayed unanswered
 *   unacked      ETIMEDOUT with sent data unacknowledged (TCP_USER_TIMEOUT), or while connecting
 *   tls          the TLS handshake failed, or the peer broke the rules of TLS later; see `reason`
 *   error        anything else; see `errno`
 */
export interface CloseCause {
  readonly kind: 'eof' | 'reset' | 'refused' | 'unreachable' | 'keepalive' | 'unacked' | 'tls' | 'error'
  /** Symbolic: "ETIMEDOUT"; null for eof. */
  readonly errno: string | null
  /** What went wrong with TLS. */
  readonly reason?: string
}

/** What a TLS context is made from. Certificates and keys are PEM texts, not paths. */
export interface TlsOptions {
  /** Which end we are in handshakes made with it. */
  readonly side: 'client' | 'server'
  /** Ours, with those that lead from it to the root; null (with `key`) shows none. */
  readonly certificate: string | null
  readonly key: string | null
  /** Whom we trust. A peer that shows a certificate must show one of theirs; null looks at none. */
  readonly ca: string | null
  /** The peer must show a certificate. Servers always do. */
  readonly peerRequired: boolean
  readonly minProtocol: 'TLSv1.2' | 'TLSv1.3'
  /** OpenSSL's list for TLS 1.2; "" takes its default. */
  readonly ciphers: string
  readonly tls13Ciphers: string
}

/** A certificate, a private key and whom to trust, ready for handshakes. */
export interface TlsContext {
  /** Connections that it was used for go on. */
  free(): void
}

export interface TlsStart {
  /** As the client: the server's name, to ask for its certificate by. */
  readonly host?: string
  /** The certificate must be for `host`, a name or an address. */
  readonly verifyHost?: boolean
  /** What has been received of the peer's handshake already. */
  readonly received?: Uint8Array
}

/** What a handshake has led to. */
export interface TlsSession {
  /** "TLSv1.3" */
  readonly protocol: string
  /** "TLS_AES_256_GCM_SHA384" */
  readonly cipher: string
  /** "x25519"; null for key exchanges without a group. */
  readonly group: string | null
  /** The application protocol both ends name (RFC 7301): "postgresql". */
  readonly alpn: string | null
  /** Common name of the certificate that the peer has shown. Verified where the context had a `ca`. */
  readonly peerName: string | null
  /** The channel binding tls-server-end-point (RFC 5929); null where the server's certificate has none. */
  readonly serverEndPoint: Uint8Array | null
}

/** TLS on such a connection: a pointer to OpenSSL's object, which is the whole process's as a descriptor is. */
export interface HandedTls {
  readonly pointer: number
  readonly session: TlsSession
}

/**
 * An accepted connection on its way from one loop to another of the same process. Whoever holds this owns it; it
 * survives structured cloning.
 */
export interface Handed {
  readonly fd: number
  readonly remote: Address
  readonly tls: HandedTls | null
}

export interface SocketEvents {
  /** An outgoing connection is open. Never called for accepted sockets. */
  onConnect(): void
  /**
   * Bytes `start` to `end` of `bytes` wait to be handled; they are valid during the call only. Returns the offset up
   * to which they were handled: the rest is kept and comes again, first, with the next bytes. A handler that returns
   * less than `end` without pausing must need more bytes to go on, and never more than `carryBytesMax` in all.
   */
  onData(bytes: Uint8Array, start: number, end: number): number
  /** What was queued has left; whoever was told to stop sending may go on. */
  onDrain(): void
  /** The handshake that `startTls` began is over: `socket.tls` says what was agreed on. Failure comes as onClose. */
  onSecured?(): void
  /** The peer or the network ended the socket. Not called after our own `close` or `end`. Nothing follows it. */
  onClose(cause: CloseCause): void
}

export interface Socket {
  /** May be replaced at any time, for instance when a login is over. */
  events: SocketEvents
  readonly remote: Address
  readonly local: Address
  /**
   * Sends the bytes at the end of this turn of the loop, at the latest. What the kernel does not take then is queued, and
   * onDrain says when it has left. False: something is queued already, and these bytes behind it; stop whoever produces
   * (pauseReading on the other side) until onDrain. Harmless after the socket ended.
   *
   * Bytes that onData was given are not copied: whoever sends them changes none of them until the turn is over.
   */
  send(bytes: Uint8Array, start: number, end: number): boolean
  /** Bytes that are queued because the kernel did not take them. */
  readonly queuedBytes: number
  /** No onData until resumeReading. The end of the peer is still noticed where that loses no data. */
  pauseReading(): void
  /** Kept bytes are delivered again soon, from the loop, not from inside this call. */
  resumeReading(): void
  readonly readingPaused: boolean
  /** No onData until releaseReading either, whoever resumes reading meanwhile: SUSPEND. */
  suspendReading(): void
  unsuspendReading(): void
  /**
   * From now on everything is TLS. Nothing is delivered, and nothing that is sent leaves, until onSecured. To be called
   * when all that was sent has left.
   */
  startTls(context: TlsContext, start: TlsStart): void
  /** Null without TLS, and before onSecured. Stays after the end. */
  readonly tls: TlsSession | null
  setTcpOptions(options: TcpOptions): void
  /** Closes now; what was sent in this turn leaves before, queued bytes are lost. No event follows. */
  close(): void
  /** Sends what is queued, then closes, with a bounded wait for the peer to read it. No event follows. */
  end(): void
}

export interface Listener {
  /** The real port when 0 was asked for. */
  readonly port: number
  close(): void
}

export interface Timer {
  cancel(): void
}

export interface Io {
  /** Monotonic, with fractions of a millisecond; taken once per turn of the loop. */
  nowMs(): number
  /** Milliseconds since 1970 by the machine's clock, which may jump: to tell people when, never to measure. */
  wallMs(): number
  /**
   * Throws an IoError when the address cannot be listened on. The file of a Unix socket gets `mode`; one that is left
   * over is replaced, and it is removed when the listener closes, unless that outlives the loop.
   */
  listen(address: Address, onAccept: (socket: Socket) => SocketEvents, mode?: number): Listener
  /** A connection attempt; failure comes as onClose, never before this call has returned. */
  connect(address: Address, options: TcpOptions, events: SocketEvents): Socket
  after(delayMs: number, run: () => void): Timer
  /** Throws an IoError that says what of the options cannot be used. */
  tlsContext(options: TlsOptions): TlsContext
  /** Fills `bytes` with cryptographically strong random bytes (the simulator: seeded ones). */
  random(bytes: Uint8Array): void
}

/** Most bytes a socket keeps for a handler that could not go on: a whole startup packet, or a message framed whole. */
export const carryBytesMax = 65536

/** Bytes read at a time; also the room a handler can count on besides what it left unhandled. */
export const readBytesMax = 65536

export class IoError extends Error {
  readonly errno: string
  constructor(message: string, errno: string) {
    super(message)
    this.name = 'IoError'
    this.errno = errno
  }
}
