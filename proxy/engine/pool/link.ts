/**
 * A link: a client and a server joined until the transaction ends (session mode: until the client leaves). requests.ts
 * is what passes in one direction, replies.ts in the other.
 *
 * Short messages are forwarded whole, so that an error of our own never lands inside one; a long one passes in pieces
 * as it arrives, so that it uses one read buffer, whatever its size.
 */
import assert from 'node:assert/strict'

/** Messages up to this length are forwarded whole. */
export const wholeBytesMax = 16_384

/**
 * One end of a link refers to the other; only `join` and `part` write these references, which are readonly elsewhere.
 */
interface ClientEnd {
  readonly pool: { readonly source: object | null }
  readonly list: object | null
  server: object | null
}

interface ServerEnd {
  readonly serverSet: { readonly source: object }
  readonly list: object | null
  client: object | null
}

/** HOT, like `part`: a call of `assert` would allocate its arguments where V8 does not inline it. */
export function join(client: ClientEnd, server: ServerEnd): void {
  if (client.server !== null || server.client !== null) assert.fail('an end of the new link has another')
  if (client.list === null || server.list === null) assert.fail('an end of the new link has left')
  if (server.serverSet.source !== client.pool.source) assert.fail('a client is joined with a server of another source')
  client.server = server
  server.client = client
}

export function part(client: ClientEnd, server: ServerEnd): void {
  if (client.server !== server || server.client !== client) assert.fail('an end of the link has another')
  client.server = null
  server.client = null
}
