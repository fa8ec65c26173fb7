import type { TlsContext, TlsOptions } from './io.ts'
import { IoError } from './io.ts'
import * as openssl from './openssl.ts'
import { Command, protocolVersions, Verify } from './openssl.ts'

/** Bytes taken from the kernel at a time: several records of a large result. */
const readBufferBytes = 65536

/** Certificate, private key and trusted CAs, ready for handshakes: an SSL_CTX. */
export class OpensslContext implements TlsContext {
  readonly side: TlsOptions['side']
  /** Channel binding of our certificate, if we are the server. */
  readonly serverEndPoint: Uint8Array | null
  #ctx: number

  /** Throws an IoError that names the invalid option. */
  constructor(options: TlsOptions) {
    this.side = options.side
    openssl.clearErrors()
    this.#ctx = openssl.newContext()
    try {
      this.#setUp(options)
      this.serverEndPoint = this.#useIdentity(options)
      this.#trust(options)
    } catch (error) {
      this.free()
      throw error
    }
  }

  /** Throws if the context was freed. */
  get pointer(): number {
    if (this.#ctx === 0) throw new Error('a TLS context was used after it was freed')
    return this.#ctx
  }

  free(): void {
    if (this.#ctx === 0) return
    openssl.freeContext(this.#ctx)
    this.#ctx = 0
  }

  #setUp({ side, minProtocol, ciphers, tls13Ciphers }: TlsOptions): void {
    const ctx = this.#ctx
    openssl.ctxSetOptions(ctx, openssl.connectionOptions)
    openssl.ctxCtrl(ctx, Command.SetMode, openssl.connectionModes, 0)
    openssl.ctxCtrl(ctx, Command.SetReadAhead, 1, 0)
    openssl.ctxSetReadBufferLength(ctx, readBufferBytes)
    // No session is resumed: each connection has its own, as in PostgreSQL.
    openssl.ctxCtrl(ctx, Command.SetSessionCacheMode, 0, 0)
    openssl.ctxSetNumTickets(ctx, 0)
    openssl.ctxCtrl(ctx, Command.SetMinProtocol, protocolVersions[minProtocol], 0)
    if (ciphers !== '' && openssl.ctxSetCipherList(ctx, ciphers) !== 1) refuse('ciphers', 'the cipher list')
    if (tls13Ciphers !== '' && openssl.ctxSetCiphersuites(ctx, tls13Ciphers) !== 1) {
      refuse('tls13Ciphers', 'the TLS 1.3 cipher list')
    }
    if (side === 'server') openssl.selectOurProtocol(ctx)
    else openssl.ctxSetAlpnProtos(ctx, openssl.alpnWire.address, openssl.alpnWire.bytes.length)
  }

  #useIdentity({ certificate, key, side }: TlsOptions): Uint8Array | null {
    if (certificate === null || key === null) return null
    const ctx = this.#ctx
    let endPoint: Uint8Array | null = null
    const found = openssl.eachCertificate(certificate, (x509, index) => {
      if (index > 0) {
        // 1: the chain holds a reference of its own.
        openssl.ctxCtrl(ctx, Command.AddChainCertificate, 1, x509)
        return
      }
      if (openssl.ctxUseCertificate(ctx, x509) !== 1) refuse('certificate', 'the certificate')
      if (side === 'server') endPoint = openssl.serverEndPoint(x509)
    })
    if (found === 0) refuse('certificate', 'the certificate', 'no certificate in PEM found')
    const readable = openssl.withKey(key, (pointer) => {
      if (openssl.ctxUsePrivateKey(ctx, pointer) !== 1) refuse('key', 'the private key')
    })
    if (!readable) refuse('key', 'the private key', 'no private key in PEM without passphrase found')
    if (openssl.ctxCheckPrivateKey(ctx) !== 1) refuse('key', 'the private key')
    return endPoint
  }

  #trust({ ca, side, peerRequired }: TlsOptions): void {
    if (ca === null) return
    const ctx = this.#ctx
    const store = openssl.ctxGetCertStore(ctx)
    const found = openssl.eachCertificate(ca, (x509) => {
      if (openssl.storeAddCert(store, x509) !== 1) refuse('ca', 'the CA certificate')
      if (side === 'server') openssl.ctxAddClientCa(ctx, x509)
    })
    if (found === 0) refuse('ca', 'the CA certificate', 'no certificate in PEM found')
    openssl.ctxSetVerify(ctx, Verify.Peer | (peerRequired ? Verify.FailWithoutCertificate : 0), 0)
  }
}

/** `part` is the invalid option. */
export class TlsOptionsError extends IoError {
  readonly part: keyof TlsOptions
  constructor(part: keyof TlsOptions, message: string) {
    super(message, 'EINVAL')
    this.name = 'TlsOptionsError'
    this.part = part
  }
}

function refuse(part: keyof TlsOptions, what: string, reason?: string): never {
  const openssls = openssl.takeReason(0).reason
  throw new TlsOptionsError(part, `could not use ${what}: ${reason ?? openssls}`)
}
