import { isIP } from 'node:net'
import type { HandedTls, TlsSession, TlsStart } from './io.ts'
import type { Memory } from './libc.ts'
import * as libc from './libc.ts'
import * as openssl from './openssl.ts'
import { Failure } from './openssl.ts'
import type { OpensslContext } from './tls-context.ts'

/**
 * TLS over one file descriptor, which OpenSSL reads and writes itself: a record is decrypted from its own buffer
 * straight into ours, with one receive for all records that have come. Every call leaves in `outcome` what it needs:
 *
 *   done    it did what was asked
 *   read    more bytes of the peer        write   room in the kernel's send buffer
 *   end     the peer has closed           failed  see `reason` and `errno`
 */
export class TlsStream {
  outcome: 'done' | 'read' | 'write' | 'end' | 'failed' = 'done'
  reason = ''
  /** Of the system call that failed, 0 when none did. */
  errno = 0
  /** What was agreed on; null before the handshake is over. */
  session: TlsSession | null = null
  readonly #side: OpensslContext['side']
  /** Of our own certificate. */
  readonly #endPoint: Uint8Array | null
  readonly #fd: number
  #ssl: number
  /** Bytes that had been received before TLS began, until OpenSSL has read them. */
  #early: Memory | null = null
  /** A connection that broke cannot be told that it ends. */
  #broken = false

  constructor(start: { readonly context: OpensslContext; readonly options: TlsStart } | HandedTls, fd: number) {
    this.#fd = fd
    if ('pointer' in start) {
      this.#side = 'server'
      this.#endPoint = start.session.serverEndPoint
      this.#ssl = start.pointer
      this.session = start.session
      openssl.countHanded(1)
      return
    }
    const { context } = start
    const { host, verifyHost, received } = start.options
    this.#side = context.side
    this.#endPoint = context.serverEndPoint
    this.#ssl = openssl.newConnection(context.pointer)
    openssl.sslSetFd(this.#ssl, fd)
    if (context.side === 'server') openssl.sslSetAcceptState(this.#ssl)
    else openssl.sslSetConnectState(this.#ssl)
    if (host !== undefined) this.#expect(host, verifyHost === true)
    if (received !== undefined && received.length > 0) {
      this.#early = libc.allocate(received.length)
      this.#early.bytes.set(received)
      openssl.readFirst(this.#ssl, this.#early, received.length)
    }
  }

  #expect(host: string, verify: boolean): void {
    const isAddress = isIP(host) !== 0
    if (!isAddress) openssl.setServerName(this.#ssl, host)
    if (verify && !openssl.expectHost(this.#ssl, host, isAddress)) {
      throw new Error(`OpenSSL cannot check a certificate for ${host}`)
    }
  }

  /** Gives the connection away, after its handshake: for another thread to go on with. */
  hand(session: TlsSession): HandedTls {
    // A handshake cannot end before its peer has read our part: what came early has been read by then.
    if (this.#early !== null) openssl.sslSetReadFd(this.#ssl, this.#fd)
    this.#early = null
    const pointer = this.#ssl
    this.#ssl = 0
    openssl.countHanded(-1)
    return { pointer, session }
  }

  /** Goes on with the handshake. */
  handshake(): void {
    openssl.clearErrors()
    const result = openssl.sslDoHandshake(this.#ssl)
    if (result === 1) {
      this.outcome = 'done'
      this.session = this.#agreed()
    } else if (this.#failed(result)) this.handshake()
  }

  /** Bytes put at `address`, at most `length`; 0 when there are none, and `outcome` says why. */
  read(address: number, length: number): number {
    openssl.clearErrors()
    const result = openssl.sslRead(this.#ssl, address, length)
    if (result > 0) return result
    return this.#failed(result) ? this.read(address, length) : 0
  }

  /** OpenSSL holds bytes that it has received already: the kernel will not report them again. */
  get pending(): boolean {
    return openssl.sslHasPending(this.#ssl) !== 0
  }

  /**
   * Bytes taken, of a call for at most 16 KB; 0 when there are none, and `outcome` says why. What was not taken must
   * come again first.
   */
  write(address: number, length: number): number {
    openssl.clearErrors()
    const result = openssl.sslWrite(this.#ssl, address, length)
    if (result > 0) return result
    this.#failed(result)
    return 0
  }

  /** close_notify, as far as the kernel takes it now. */
  sayEnd(): void {
    if (this.#broken || this.session === null) return
    openssl.clearErrors()
    openssl.sslShutdown(this.#ssl)
    openssl.clearErrors()
  }

  free(): void {
    if (this.#ssl === 0) return
    openssl.freeConnection(this.#ssl)
    this.#ssl = 0
  }

  /** True when it is to be tried again at once, with the descriptor in place of the early bytes. */
  #failed(result: number): boolean {
    const errno = openssl.lastErrno()
    const failure = openssl.sslGetError(this.#ssl, result)
    switch (failure) {
      case Failure.WantRead:
        if (this.#early !== null) {
          openssl.sslSetReadFd(this.#ssl, this.#fd)
          this.#early = null
          return true
        }
        this.outcome = 'read'
        return false
      case Failure.WantWrite:
        this.outcome = 'write'
        return false
      case Failure.ZeroReturn:
        this.outcome = 'end'
        return false
      default: {
        this.#broken = true
        this.outcome = 'failed'
        const { reason, errno: systemError } = openssl.takeReason(this.#ssl)
        this.reason = reason
        this.errno = reason === '' ? systemError || (failure === Failure.Syscall ? errno : 0) : 0
        return false
      }
    }
  }

  #agreed(): TlsSession {
    const ssl = this.#ssl
    const side = this.#side
    const certificate = openssl.peerCertificate(ssl)
    try {
      return {
        protocol: openssl.sslVersion(ssl) ?? '',
        cipher: openssl.cipherName(ssl),
        group: openssl.sslGroupName(ssl),
        alpn: openssl.alpnSelected(ssl),
        peerName: certificate === 0 ? null : openssl.commonName(certificate),
        serverEndPoint:
          side === 'server' ? this.#endPoint : certificate === 0 ? null : openssl.serverEndPoint(certificate),
      }
    } finally {
      if (certificate !== 0) openssl.freeCertificate(certificate)
      openssl.clearErrors()
    }
  }
}
