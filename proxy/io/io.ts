/**
 * The boundary between the engine and the outside. The engine is written against this interface and has no file
 * descriptor, clock or randomness of its own, so that it runs on epoll (the product) and on the simulator (tests:
 * virtual clock, seeded faults).
 *
 * Everything is synchronous: a callback runs to its end before the next one starts, on one thread.
 */

/**
 * `host` is an IPv4 or IPv6 literal, or as in libpq an absolute directory, in which the Unix socket is named after the
 * port, `.s.PGSQL.<port>`.
 */
export interface Address {
  readonly host: string
  readonly port: number
}

export function isUnix({ host }: Address): boolean {
  return host.startsWith('/')
}

/** tcp(7) socket options, not for Unix sockets. Milliseconds, rounded up to seconds where the kernel counts seconds. */
export interface TcpOptions {
  readonly keepaliveIdleMs: number
  readonly keepaliveIntervalMs: number
  readonly keepaliveCount: number
  /** 0 uses the kernel's default (tcp_retries2, about 15 minutes). */
  readonly userTimeoutMs: number
}

/**
 * Why a socket ended, as far as the operating system can tell.
 *   eof          the peer closed its side in order
 *   reset        ECONNRESET or EPIPE
 *   refused      ECONNREFUSED on connect
 *   unreachable  EHOSTUNREACH, ENETUNREACH, EHOSTDOWN …
 *   keepalive    ETIMEDOUT with nothing unacknowledged: probes were not answered
 *   unacked      ETIMEDOUT with sent data unacknowledged (TCP_USER_TIMEOUT), or on connect
 *   tls          the TLS handshake failed, or the peer violated TLS later; see `reason`
 *   error        anything else; see `errno`
 */
export interface CloseCause {
  readonly kind: 'eof' | 'reset' | 'refused' | 'unreachable' | 'keepalive' | 'unacked' | 'tls' | 'error'
  /** Symbolic: "ETIMEDOUT"; null for eof. */
  readonly errno: string | null
  /** Why TLS failed. */
  readonly reason?: string
}

/** Parameters of a TLS context. Certificates and keys are PEM texts, not paths. */
export interface TlsOptions {
  /** Our side in handshakes. */
  readonly side: 'client' | 'server'
  /** Our certificate with its chain; null (with `key`) for none. */
  readonly certificate: string | null
  readonly key: string | null
  /** Trusted CA certificates. A peer that presents a certificate must present one they issued; null verifies none. */
  readonly ca: string | null
  /** The peer must present a certificate. Servers always do. */
  readonly peerRequired: boolean
  readonly minProtocol: 'TLSv1.2' | 'TLSv1.3'
  /** OpenSSL cipher list for TLS 1.2; "" for its default. */
  readonly ciphers: string
  readonly tls13Ciphers: string
}

/** Certificate, private key and trusted CAs, ready for handshakes. */
export interface TlsContext {
  /** Existing connections continue. */
  free(): void
}

export interface TlsStart {
  /** For a client: the server's name, sent in the handshake. */
  readonly host?: string
  /** The certificate must match `host`, a name or an address. */
  readonly verifyHost?: boolean
  /** Bytes of the peer's handshake that were received before. */
  readonly received?: Uint8Array
}

/** Result of a handshake. */
export interface TlsSession {
  /** "TLSv1.3" */
  readonly protocol: string
  /** "TLS_AES_256_GCM_SHA384" */
  readonly cipher: string
  /** "x25519"; null for key exchanges without a group. */
  readonly group: string | null
  /** The negotiated application protocol (RFC 7301): "postgresql". */
  readonly alpn: string | null
  /** Common name of the peer's certificate. Verified if the context had a `ca`. */
  readonly peerName: string | null
  /** The channel binding tls-server-end-point (RFC 5929); null if the server's certificate has none. */
  readonly serverEndPoint: Uint8Array | null
}

/** TLS of a handed connection: a pointer to OpenSSL's object, valid in the whole process like a descriptor. */
export interface HandedTls {
  readonly pointer: number
  readonly session: TlsSession
}

/**
 * An accepted connection on its way between two loops of the process, owned by the holder. It survives structured
 * cloning.
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
   * Bytes `start` to `end` of `bytes` are to be handled; they are valid during the call only. Returns the offset up to
   * which they were handled: the rest is kept and delivered again, first, with the next bytes. A handler that returns
   * less than `end` without pausing must need more bytes to progress, and never more than `carryBytesMax` in total.
   */
  onData(bytes: Uint8Array, start: number, end: number): number
  /** Queued bytes have left; sending may continue. */
  onDrain(): void
  /** The handshake started by `startTls` has completed: see `socket.tls`. Failure is reported by onClose. */
  onSecured?(): void
  /** The peer or network ended the socket. Not called after our own `close` or `end`. The last event. */
  onClose(cause: CloseCause): void
}

export interface Socket {
  /** Can be replaced at any time, for instance after a login. */
  events: SocketEvents
  readonly remote: Address
  readonly local: Address
  /**
   * Sends the bytes at the end of this turn of the loop, at the latest. What the kernel does not take then is queued,
   * and onDrain tells when it has left. False: bytes are queued already, and these behind them; stop the producer
   * (pauseReading on the other side) until onDrain. Harmless after the socket has ended.
   *
   * Bytes passed by onData are not copied: the sender must not change them until the end of the turn.
   */
  send(bytes: Uint8Array, start: number, end: number): boolean
  /** Bytes queued because the kernel did not take them. */
  readonly queuedBytes: number
  /** No onData until resumeReading. The peer's end is still noticed where no data would be lost. */
  pauseReading(): void
  /** Kept bytes are delivered again by the loop, not during this call. */
  resumeReading(): void
  readonly readingPaused: boolean
  /** No onData until unsuspendReading, even after resumeReading: for SUSPEND. */
  suspendReading(): void
  unsuspendReading(): void
  /**
   * Starts TLS. Nothing is delivered, and nothing that is sent leaves, until onSecured. Call only after everything sent
   * has left.
   */
  startTls(context: TlsContext, start: TlsStart): void
  /** Null without TLS and before onSecured. Kept after the end. */
  readonly tls: TlsSession | null
  setTcpOptions(options: TcpOptions): void
  /** Closes now; bytes sent in this turn leave before, queued bytes are lost. No event follows. */
  close(): void
  /** Sends queued bytes, then closes, with a limited wait for the peer to read them. No event follows. */
  end(): void
}

export interface Listener {
  /** The actual port, also if 0 was given. */
  readonly port: number
  close(): void
}

export interface Timer {
  cancel(): void
}

export interface Io {
  /** Monotonic, with fractions of a millisecond; read once per turn of the loop. */
  nowMs(): number
  /** Milliseconds since 1970 by the system clock, which may jump: for display, never for measuring. */
  wallMs(): number
  /**
   * Throws an IoError if it cannot listen on the address. The file of a Unix socket gets `mode`; a stale one is
   * replaced, and the file is removed when the listener closes, unless that outlives the loop.
   */
  listen(address: Address, onAccept: (socket: Socket) => SocketEvents, mode?: number): Listener
  /** Starts to connect; failure is reported by onClose, never before this call has returned. */
  connect(address: Address, options: TcpOptions, events: SocketEvents): Socket
  after(delayMs: number, run: () => void): Timer
  /** Throws an IoError that names the invalid option. */
  tlsContext(options: TlsOptions): TlsContext
  /** Fills `bytes` with cryptographically strong random bytes (the simulator: seeded ones). */
  random(bytes: Uint8Array): void
}

/** Maximum number of bytes kept for a handler that needs more: a startup packet, or a message that is framed whole. */
export const carryBytesMax = 65536

/** Bytes read at a time; also the room a handler can count on besides what it left. */
export const readBytesMax = 65536

export class IoError extends Error {
  readonly errno: string
  constructor(message: string, errno: string) {
    super(message)
    this.name = 'IoError'
    this.errno = errno
  }
}
