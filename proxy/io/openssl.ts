/**
 * The functions of OpenSSL that TLS needs, called through koffi in the running binary: Node contains OpenSSL (3.5 in
 * Node 24), so TLS needs no dependency. Pointers are plain numbers, as in libc.ts.
 *
 * Objects are counted when they are created and freed, so that tests can check that none is leaked.
 */
import koffi from 'koffi'
import type { Memory } from './libc.ts'
import { allocate, errno } from './libc.ts'

const binary = koffi.load(null)

type Pointer = number

// Contexts

const tlsMethod: () => Pointer = binary.func('uintptr_t TLS_method()')
const ctxNew: (method: Pointer) => Pointer = binary.func('uintptr_t SSL_CTX_new(uintptr_t method)')
const ctxFree: (ctx: Pointer) => void = binary.func('void SSL_CTX_free(uintptr_t ctx)')
export const ctxCtrl: (ctx: Pointer, command: number, value: number, pointer: Pointer) => number = binary.func(
  'long SSL_CTX_ctrl(uintptr_t ctx, int cmd, long larg, uintptr_t parg)',
)
export const ctxSetOptions: (ctx: Pointer, options: number) => number = binary.func(
  'uint64_t SSL_CTX_set_options(uintptr_t ctx, uint64_t options)',
)
export const ctxSetVerify: (ctx: Pointer, mode: number, callback: Pointer) => void = binary.func(
  'void SSL_CTX_set_verify(uintptr_t ctx, int mode, uintptr_t callback)',
)
export const ctxSetCipherList: (ctx: Pointer, list: string) => number = binary.func(
  'int SSL_CTX_set_cipher_list(uintptr_t ctx, str list)',
)
export const ctxSetCiphersuites: (ctx: Pointer, list: string) => number = binary.func(
  'int SSL_CTX_set_ciphersuites(uintptr_t ctx, str list)',
)
export const ctxSetNumTickets: (ctx: Pointer, count: number) => number = binary.func(
  'int SSL_CTX_set_num_tickets(uintptr_t ctx, size_t num)',
)
export const ctxSetReadBufferLength: (ctx: Pointer, length: number) => void = binary.func(
  'void SSL_CTX_set_default_read_buffer_len(uintptr_t ctx, size_t len)',
)
export const ctxUseCertificate: (ctx: Pointer, certificate: Pointer) => number = binary.func(
  'int SSL_CTX_use_certificate(uintptr_t ctx, uintptr_t x)',
)
export const ctxUsePrivateKey: (ctx: Pointer, key: Pointer) => number = binary.func(
  'int SSL_CTX_use_PrivateKey(uintptr_t ctx, uintptr_t key)',
)
export const ctxCheckPrivateKey: (ctx: Pointer) => number = binary.func('int SSL_CTX_check_private_key(uintptr_t ctx)')
export const ctxGetCertStore: (ctx: Pointer) => Pointer = binary.func('uintptr_t SSL_CTX_get_cert_store(uintptr_t ctx)')
export const storeAddCert: (store: Pointer, certificate: Pointer) => number = binary.func(
  'int X509_STORE_add_cert(uintptr_t store, uintptr_t x)',
)
export const ctxAddClientCa: (ctx: Pointer, certificate: Pointer) => number = binary.func(
  'int SSL_CTX_add_client_CA(uintptr_t ctx, uintptr_t x)',
)
export const ctxSetAlpnProtos: (ctx: Pointer, protocols: Pointer, length: number) => number = binary.func(
  'int SSL_CTX_set_alpn_protos(uintptr_t ctx, uintptr_t protos, uint len)',
)
const ctxSetAlpnSelect: (ctx: Pointer, callback: unknown, argument: Pointer) => void = binary.func(
  'void SSL_CTX_set_alpn_select_cb(uintptr_t ctx, void *cb, uintptr_t arg)',
)

// Certificates

const bioNewMemBuf: (bytes: Pointer, length: number) => Pointer = binary.func(
  'uintptr_t BIO_new_mem_buf(uintptr_t buf, int len)',
)
const bioFree: (bio: Pointer) => number = binary.func('int BIO_free(uintptr_t bio)')
const bioCtrl: (bio: Pointer, command: number, value: number, pointer: Pointer) => number = binary.func(
  'long BIO_ctrl(uintptr_t bio, int cmd, long larg, uintptr_t parg)',
)
const pemReadX509: (bio: Pointer, out: Pointer, callback: Pointer, password: Pointer) => Pointer = binary.func(
  'uintptr_t PEM_read_bio_X509(uintptr_t bio, uintptr_t x, uintptr_t cb, uintptr_t u)',
)
const pemReadKey: (bio: Pointer, out: Pointer, callback: Pointer, password: Pointer) => Pointer = binary.func(
  'uintptr_t PEM_read_bio_PrivateKey(uintptr_t bio, uintptr_t x, uintptr_t cb, uintptr_t u)',
)
const x509Free: (certificate: Pointer) => void = binary.func('void X509_free(uintptr_t x)')
const keyFree: (key: Pointer) => void = binary.func('void EVP_PKEY_free(uintptr_t key)')
const x509SignatureInfo: (x: Pointer, digest: Pointer, key: Pointer, bits: Pointer, flags: Pointer) => number =
  binary.func(
    'int X509_get_signature_info(uintptr_t x, uintptr_t mdnid, uintptr_t pknid, uintptr_t secbits, uintptr_t flags)',
  )
const x509Digest: (x: Pointer, digest: Pointer, out: Pointer, length: Pointer) => number = binary.func(
  'int X509_digest(uintptr_t x, uintptr_t type, uintptr_t md, uintptr_t len)',
)
const shortName: (nid: number) => string | null = binary.func('str OBJ_nid2sn(int n)')
const digestByName: (name: string) => Pointer = binary.func('uintptr_t EVP_get_digestbyname(str name)')
const x509Subject: (x: Pointer) => Pointer = binary.func('uintptr_t X509_get_subject_name(uintptr_t x)')
const nameText: (name: Pointer, nid: number, out: Pointer, length: number) => number = binary.func(
  'int X509_NAME_get_text_by_NID(uintptr_t name, int nid, uintptr_t buf, int len)',
)

// Connections

const sslNew: (ctx: Pointer) => Pointer = binary.func('uintptr_t SSL_new(uintptr_t ctx)')
const sslFree: (ssl: Pointer) => void = binary.func('void SSL_free(uintptr_t ssl)')
export const sslSetFd: (ssl: Pointer, fd: number) => number = binary.func('int SSL_set_fd(uintptr_t ssl, int fd)')
export const sslSetReadFd: (ssl: Pointer, fd: number) => number = binary.func('int SSL_set_rfd(uintptr_t ssl, int fd)')
/** Takes ownership of the BIO. */
const sslSetReadBio: (ssl: Pointer, bio: Pointer) => void = binary.func(
  'void SSL_set0_rbio(uintptr_t ssl, uintptr_t bio)',
)
export const sslSetConnectState: (ssl: Pointer) => void = binary.func('void SSL_set_connect_state(uintptr_t ssl)')
export const sslSetAcceptState: (ssl: Pointer) => void = binary.func('void SSL_set_accept_state(uintptr_t ssl)')
export const sslDoHandshake: (ssl: Pointer) => number = binary.func('int SSL_do_handshake(uintptr_t ssl)')
export const sslRead: (ssl: Pointer, bytes: Pointer, length: number) => number = binary.func(
  'int SSL_read(uintptr_t ssl, uintptr_t buf, int num)',
)
export const sslWrite: (ssl: Pointer, bytes: Pointer, length: number) => number = binary.func(
  'int SSL_write(uintptr_t ssl, uintptr_t buf, int num)',
)
export const sslHasPending: (ssl: Pointer) => number = binary.func('int SSL_has_pending(uintptr_t ssl)')
export const sslShutdown: (ssl: Pointer) => number = binary.func('int SSL_shutdown(uintptr_t ssl)')
export const sslGetError: (ssl: Pointer, result: number) => number = binary.func(
  'int SSL_get_error(uintptr_t ssl, int ret)',
)
const sslCtrlText: (ssl: Pointer, command: number, value: number, text: string) => number = binary.func(
  'long SSL_ctrl(uintptr_t ssl, int cmd, long larg, str parg)',
)
const sslGetParam: (ssl: Pointer) => Pointer = binary.func('uintptr_t SSL_get0_param(uintptr_t ssl)')
const paramSetHost: (param: Pointer, name: string, length: number) => number = binary.func(
  'int X509_VERIFY_PARAM_set1_host(uintptr_t param, str name, size_t namelen)',
)
const paramSetIp: (param: Pointer, address: string) => number = binary.func(
  'int X509_VERIFY_PARAM_set1_ip_asc(uintptr_t param, str ipasc)',
)
const sslVerifyResult: (ssl: Pointer) => number = binary.func('long SSL_get_verify_result(uintptr_t ssl)')
const verifyErrorText: (result: number) => string | null = binary.func('str X509_verify_cert_error_string(long n)')
export const sslVersion: (ssl: Pointer) => string | null = binary.func('str SSL_get_version(uintptr_t ssl)')
const sslCipher: (ssl: Pointer) => Pointer = binary.func('uintptr_t SSL_get_current_cipher(uintptr_t ssl)')
const cipherNameOf: (cipher: Pointer) => string | null = binary.func('str SSL_CIPHER_get_name(uintptr_t cipher)')
export const sslGroupName: (ssl: Pointer) => string | null = binary.func('str SSL_get0_group_name(uintptr_t ssl)')
const sslAlpnSelected: (ssl: Pointer, data: Pointer, length: Pointer) => void = binary.func(
  'void SSL_get0_alpn_selected(uintptr_t ssl, uintptr_t data, uintptr_t len)',
)
const sslPeerCertificate: (ssl: Pointer) => Pointer = binary.func('uintptr_t SSL_get1_peer_certificate(uintptr_t ssl)')

// Errors

export const clearErrors: () => void = binary.func('void ERR_clear_error()')
const nextError: () => number | bigint = binary.func('ulong ERR_get_error()')
const reasonOf: (code: number) => string | null = binary.func('str ERR_reason_error_string(ulong e)')

const copyMemory: (to: Pointer, from: Pointer, length: number) => Pointer = binary.func(
  'uintptr_t memcpy(uintptr_t dest, uintptr_t src, size_t n)',
)

/** Command codes of SSL_CTX_ctrl, SSL_ctrl and BIO_ctrl (ssl.h, bio.h). */
export const Command = {
  SetMode: 33,
  SetReadAhead: 41,
  SetSessionCacheMode: 44,
  SetServerName: 55,
  AddChainCertificate: 89,
  SetMinProtocol: 123,
  SetEndOfMemory: 130,
} as const

/** PARTIAL_WRITE, ACCEPT_MOVING_WRITE_BUFFER, AUTO_RETRY and RELEASE_BUFFERS: an idle connection keeps no buffers. */
export const connectionModes = 0x1 | 0x2 | 0x4 | 0x10

/** IGNORE_UNEXPECTED_EOF, NO_TICKET, NO_COMPRESSION, CIPHER_SERVER_PREFERENCE, NO_RENEGOTIATION. */
export const connectionOptions = 0x80 | 0x4000 | 0x20000 | 0x400000 | 0x40000000

export const Verify = { None: 0, Peer: 1, FailWithoutCertificate: 2 } as const

export const Failure = { Ssl: 1, WantRead: 2, WantWrite: 3, Syscall: 5, ZeroReturn: 6 } as const

export const protocolVersions = { 'TLSv1.2': 0x0303, 'TLSv1.3': 0x0304 } as const

const systemErrorFlag = 0x80000000
const commonNameNid = 13
const undefinedNid = 0
const serverNameTypeHost = 0
const verified = 0
const endOfMemoryRetry = -1

// Allocated objects

const made = { contexts: 0, connections: 0, certificates: 0, keys: 0, bios: 0 }

/** Living objects of this thread, by kind. */
export function livingObjects(): Readonly<typeof made> {
  return { ...made }
}

function count(kind: keyof typeof made, pointer: Pointer): Pointer {
  if (pointer !== 0) made[kind]++
  return pointer
}

export function newContext(): Pointer {
  return count('contexts', ctxNew(tlsMethod()))
}

/** Connections made with it continue; the last of them frees it. */
export function freeContext(ctx: Pointer): void {
  ctxFree(ctx)
  made.contexts--
}

export function newConnection(ctx: Pointer): Pointer {
  return count('connections', sslNew(ctx))
}

export function freeConnection(ssl: Pointer): void {
  sslFree(ssl)
  made.connections--
}

/** Moves a connection from or to the count of another thread: it is used by one thread at a time. */
export function countHanded(by: 1 | -1): void {
  made.connections += by
}

/** The connection reads from `memory` first, which must live until `sslSetReadFd`. */
export function readFirst(ssl: Pointer, memory: Memory, length: number): void {
  const bio = bioNewMemBuf(memory.address, length)
  bioCtrl(bio, Command.SetEndOfMemory, endOfMemoryRetry, 0)
  sslSetReadBio(ssl, bio)
}

/** Calls `use` with each certificate of a PEM text, in order; returns how many there were. */
export function eachCertificate(pem: string, use: (certificate: Pointer, index: number) => void): number {
  return withBio(pem, (bio) => {
    let found = 0
    for (;;) {
      const certificate = count('certificates', pemReadX509(bio, 0, 0, noPassword.address))
      if (certificate === 0) break
      try {
        use(certificate, found++)
      } finally {
        freeCertificate(certificate)
      }
    }
    // The error that ended the loop, usually "no start line".
    clearErrors()
    return found
  })
}

/** Calls `use` with the private key of a PEM text; false if there is none that can be read. */
export function withKey(pem: string, use: (key: Pointer) => void): boolean {
  return withBio(pem, (bio) => {
    const key = count('keys', pemReadKey(bio, 0, 0, noPassword.address))
    if (key === 0) return false
    try {
      use(key)
      return true
    } finally {
      keyFree(key)
      made.keys--
    }
  })
}

function withBio<Result>(text: string, use: (bio: Pointer) => Result): Result {
  const bytes = Buffer.from(text)
  const memory = allocate(Math.max(1, bytes.length))
  memory.bytes.set(bytes)
  const bio = count('bios', bioNewMemBuf(memory.address, bytes.length))
  try {
    return use(bio)
  } finally {
    bioFree(bio)
    made.bios--
    memory.bytes.fill(0)
  }
}

/** The peer's certificate, to be freed with `freeCertificate`; 0 without one. */
export function peerCertificate(ssl: Pointer): Pointer {
  return count('certificates', sslPeerCertificate(ssl))
}

export function freeCertificate(certificate: Pointer): void {
  x509Free(certificate)
  made.certificates--
}

/** The subject's common name; null without one, or if it contains a NUL, with which it could pass for another name. */
export function commonName(certificate: Pointer): string | null {
  const length = nameText(x509Subject(certificate), commonNameNid, scratch.address, scratch.bytes.length)
  if (length <= 0) return null
  const text = scratch.bytes.toString('utf8', 0, length)
  return text.includes('\0') ? null : text
}

/**
 * The channel binding `tls-server-end-point` (RFC 5929, 4.1): the certificate's hash by the hash function of its
 * signature, SHA-256 in place of MD5 and SHA-1; null for signatures without one, such as Ed25519's.
 */
export function serverEndPoint(certificate: Pointer): Uint8Array | null {
  const known = x509SignatureInfo(certificate, scratch.address, 0, 0, 0)
  clearErrors()
  const nid = scratch.bytes.readInt32LE(0)
  if (known !== 1 || nid === undefinedNid) return null
  const name = shortName(nid) ?? ''
  const digest = digestByName(['MD5', 'SHA1'].includes(name) ? 'SHA256' : name)
  if (digest === 0) return null
  const lengthAt = scratch.bytes.length - 4
  if (x509Digest(certificate, digest, scratch.address, scratch.address + lengthAt) !== 1) return null
  return Uint8Array.from(scratch.bytes.subarray(0, scratch.bytes.readUInt32LE(lengthAt)))
}

export function cipherName(ssl: Pointer): string {
  return cipherNameOf(sslCipher(ssl)) ?? ''
}

export function alpnSelected(ssl: Pointer): string | null {
  sslAlpnSelected(ssl, scratch.address, scratch.address + 8)
  const from = Number(scratch.bytes.readBigUInt64LE(0))
  const length = scratch.bytes.readUInt32LE(8)
  if (from === 0 || length === 0) return null
  copyMemory(scratch.address, from, length)
  return scratch.bytes.toString('latin1', 0, length)
}

/** Sets the name or address that the server's certificate must match; false if OpenSSL rejects it. */
export function expectHost(ssl: Pointer, host: string, isAddress: boolean): boolean {
  const param = sslGetParam(ssl)
  return (isAddress ? paramSetIp(param, host) : paramSetHost(param, host, 0)) === 1
}

/** Server name indication (RFC 6066): selects among the server's certificates. */
export function setServerName(ssl: Pointer, host: string): void {
  sslCtrlText(ssl, Command.SetServerName, serverNameTypeHost, host)
}

/**
 * Why the last call failed, in OpenSSL's words, including the verification error of the peer's certificate. Empties the
 * error queue.
 */
export function takeReason(ssl: Pointer): { reason: string; errno: number } {
  let reason = ''
  let systemError = 0
  for (let code = Number(nextError()); code !== 0; code = Number(nextError())) {
    if (code >= systemErrorFlag) systemError = code - systemErrorFlag
    else if (reason === '') reason = reasonOf(code) ?? `OpenSSL error ${code.toString(16)}`
  }
  const result = ssl === 0 ? verified : sslVerifyResult(ssl)
  if (result !== verified && reason === 'certificate verify failed') {
    reason += `: ${verifyErrorText(result) ?? result}`
  }
  return { reason, errno: systemError }
}

export function lastErrno(): number {
  return errno()
}

// ALPN (RFC 7301)

/** Registered with IANA for PostgreSQL. */
const alpnProtocol = 'postgresql'

/** As in a ClientHello: a length and a name. */
export const alpnWire = allocate(1 + alpnProtocol.length)
alpnWire.bytes.writeUInt8(alpnProtocol.length, 0)
alpnWire.bytes.write(alpnProtocol, 1)

const alpnOfferMax = 65535
const alpnAccept = 0
/** SSL_TLSEXT_ERR_ALERT_FATAL: no_application_protocol */
const alpnRefuse = 2

/** A server's selection: our protocol, or the end of the handshake. Not called for clients that offer none. */
const selectAlpn = koffi.register(
  (_ssl: Pointer, out: Pointer, outLength: Pointer, offered: Pointer, length: number): number => {
    copyMemory(alpnOffer.address, offered, Math.min(length, alpnOfferMax))
    for (let at = 0; at < length; at += 1 + (alpnOffer.bytes[at] as number)) {
      const end = at + 1 + (alpnOffer.bytes[at] as number)
      if (end > length || alpnOffer.bytes.toString('latin1', at + 1, end) !== alpnProtocol) continue
      scratch.bytes.writeBigUInt64LE(BigInt(offered + at + 1), 0)
      scratch.bytes.writeUInt8(alpnProtocol.length, 8)
      copyMemory(out, scratch.address, 8)
      copyMemory(outLength, scratch.address + 8, 1)
      return alpnAccept
    }
    return alpnRefuse
  },
  koffi.pointer(
    koffi.proto(
      'int FlotillaSelectAlpn(uintptr_t ssl, uintptr_t out, uintptr_t outlen, uintptr_t in, uint inlen, uintptr_t arg)',
    ),
  ),
)

export function selectOurProtocol(ctx: Pointer): void {
  ctxSetAlpnSelect(ctx, selectAlpn, 0)
}

const scratch = allocate(512)
const alpnOffer = allocate(alpnOfferMax)
/** A password, so that OpenSSL does not prompt for one: keys with a passphrase are rejected. */
const noPassword = allocate(1)
noPassword.bytes[0] = 0
