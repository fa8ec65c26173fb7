import { isIP } from 'node:net'
import type { HandedTls, TlsSession, TlsStart } from './io.ts'
import type { Memory } from './libc.ts'
import * as libc from './libc.ts'
import * as openssl from './openssl.ts'
import { Failure } from './openssl.ts'
import type { OpensslContext } from './tls-context.ts'

/**
 * TLS over a file descriptor, which OpenSSL reads and writes itself: a record is decrypted from OpenSSL's buffer
 * straight into ours, with one receive for all records that have arrived. Every call sets `outcome`:
 *
 *   done    success
 *   read    needs bytes of the peer        write   needs room in the kernel's send buffer
 *   end     the peer has closed            failed  see `reason` and `errno`
 */
export class TlsStream {
  outcome: 'done' | 'read' | 'write' | 'end' | 'failed' = 'done'
  reason = ''
  /** errno of the failed system call; 0 without one. */
  errno = 0
  /** Result of the handshake; null before it has completed. */
  session: TlsSession | null = null
  readonly #side: OpensslContext['side']
  /** Channel binding of our certificate. */
  readonly #endPoint: Uint8Array | null
  readonly #fd: number
  #ssl: number
  /** Bytes received before TLS began, until OpenSSL has read them. */
  #early: Memory | null = null
  /** No close_notify can be sent on a broken connection. */
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
      throw new Error(`OpenSSL cannot verify a certificate for ${host}`)
    }
  }

  /** Gives the connection away after its handshake, to another thread. */
  hand(session: TlsSession): HandedTls {
    // The handshake is complete, so early bytes have been read.
    if (this.#early !== null) openssl.sslSetReadFd(this.#ssl, this.#fd)
    this.#early = null
    const pointer = this.#ssl
    this.#ssl = 0
    openssl.countHanded(-1)
    return { pointer, session }
  }

  /** Continues the handshake. */
  handshake(): void {
    openssl.clearErrors()
    const result = openssl.sslDoHandshake(this.#ssl)
    if (result === 1) {
      this.outcome = 'done'
      this.session = this.#agreed()
    } else if (this.#failed(result)) this.handshake()
  }

  /** Reads at most `length` bytes to `address`; 0 if there are none, see `outcome`. */
  read(address: number, length: number): number {
    openssl.clearErrors()
    const result = openssl.sslRead(this.#ssl, address, length)
    if (result > 0) return result
    return this.#failed(result) ? this.read(address, length) : 0
  }

  /** OpenSSL holds received bytes, which the kernel does not report again. */
  get pending(): boolean {
    return openssl.sslHasPending(this.#ssl) !== 0
  }

  /**
   * Number of bytes taken, at most 16 KB per call; 0 if none, see `outcome`. Bytes that were not taken must be given
   * first the next time.
   */
  write(address: number, length: number): number {
    openssl.clearErrors()
    const result = openssl.sslWrite(this.#ssl, address, length)
    if (result > 0) return result
    this.#failed(result)
    return 0
  }

  /** Sends close_notify if the kernel takes it now. */
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

  /** True if the call should be repeated at once, with the descriptor in place of the early bytes. */
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
