/**
 * The statement without a name in transaction mode. A session has one, whoever parsed it, so a client that binds it on a
 * server where another has parsed since would execute the other's. It is the client's own: its last Parse is kept, and
 * given to a server whose statement is another's. One that is not kept does not exist there, as PostgreSQL then says.
 */
import { copyBytes } from '../io/copy.ts'
import { FrontendTag } from '../protocol/tags.ts'
import * as write from '../protocol/write.ts'
import type { Client } from './client.ts'
import type { Server } from './server.ts'

/** Longest Parse that is kept; memory is a power of two that has room for it. */
const keptBytesMax = 16_384
const firstBytes = 256

export class UnnamedStatement {
  #bytes = Buffer.allocUnsafeSlow(firstBytes)
  #length = 0

  /** The whole Parse message, valid until the next one; null when there is none, or none that was kept. */
  get parse(): Uint8Array | null {
    return this.#length === 0 ? null : this.#bytes.subarray(0, this.#length)
  }

  /** HOT. */
  keep(bytes: Uint8Array, start: number, end: number): void {
    const length = end - start
    if (length > this.#bytes.length) this.#bytes = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(length)))
    copyBytes(bytes, start, end, this.#bytes, 0)
    this.#length = length
  }

  forget(): void {
    this.#length = 0
  }
}

export const closeUnnamed = write.closeStatement('')

/** HOT. A Parse without a name, at `at`, passes to the server. */
export function parsedUnnamed(
  client: Client,
  server: Server,
  bytes: Uint8Array,
  at: number,
  next: number,
  end: number,
): void {
  unkept(client, server)
  if (next > end || next - at > keptBytesMax || server.outstanding.skipping) return
  client.unnamed ??= new UnnamedStatement()
  client.unnamed.keep(bytes, at, next)
}

/** A Parse without a name passes that means nothing to another server. */
export function unkept(client: Client, server: Server): void {
  server.unnamedOf = server.outstanding.skipping ? 0 : client.id
  client.unnamed?.forget()
}

/** HOT. A simple query or a Close of it passes, or its Parse was not done: nobody knows what the session has now. */
export function unnamedGone(client: Client, server: Server): void {
  server.unnamedOf = 0
  client.unnamed?.forget()
}

/** HOT. A Bind or Describe of the statement without a name would find another client's, or nobody knows whose. */
export function lacksUnnamed(client: Client, server: Server, tag: number): boolean {
  if (tag !== FrontendTag.Bind && tag !== FrontendTag.Describe) return false
  return server.unnamedOf !== client.id && !server.outstanding.copying
}

/** HOT. The body of a Close speaks of the statement without a name: Byte1 'S', String "". */
export function isUnnamedStatement(bytes: Uint8Array, body: number): boolean {
  return bytes[body] === 0x53 && bytes[body + 1] === 0
}
