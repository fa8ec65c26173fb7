import { expect, test } from 'vitest'
import { join, part } from '../../../../proxy/engine/pool/link.ts'

const source = {}
const pool = { source }
const list = {}

function newEnds() {
  const client = { pool, list: list as object | null, server: null as object | null }
  const server = { serverSet: { source }, list: list as object | null, client: null as object | null }
  return { client, server }
}

test('join sets both ends, and part clears both', () => {
  const { client, server } = newEnds()

  join(client, server)
  const joined = [client.server, server.client]
  part(client, server)

  expect(joined).toEqual([server, client])
  expect([client.server, server.client]).toEqual([null, null])
})

test.for<readonly [string, string, (ends: ReturnType<typeof newEnds>) => void]>([
  ['its client has a server', 'has another', ({ client }) => (client.server = {})],
  ['its server has a client', 'has another', ({ server }) => (server.client = {})],
  ['its client has left', 'has left', ({ client }) => (client.list = null)],
  ['its server has ended', 'has left', ({ server }) => (server.list = null)],
  ['they are of two sources', 'another source', ({ server }) => (server.serverSet = { source: {} })],
])('a link is not made where %s', ([, message, arrange]) => {
  const ends = newEnds()
  arrange(ends)
  const before = [ends.client.server, ends.server.client]

  expect(() => join(ends.client, ends.server)).toThrow(message)
  expect([ends.client.server, ends.server.client]).toEqual(before)
})

test('only the two ends of a link part', () => {
  const one = newEnds()
  const other = newEnds()
  join(one.client, one.server)
  join(other.client, other.server)

  expect(() => part(one.client, other.server)).toThrow('has another')
  expect(() => part(other.client, one.server)).toThrow('has another')
  expect([one.client.server, other.client.server]).toEqual([one.server, other.server])
})

test('a link ends after either end has left its list', () => {
  const { client, server } = newEnds()
  join(client, server)
  client.list = null
  server.list = null

  part(client, server)

  expect([client.server, server.client]).toEqual([null, null])
})
