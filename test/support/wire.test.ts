import { expect, test } from 'vitest'
import {
  bind,
  copyData,
  copyDone,
  describePortal,
  execute,
  parse,
  query,
  sslRequest,
  sync,
} from './frontend-messages.ts'
import { transcript } from './oracle.ts'
import { startPostgres } from './postgres.ts'
import { ConnectionEnded, WireClient } from './wire.ts'

test.for(['password', 'md5', 'scram-sha-256'] as const)('the wire client logs in by %s', async (auth) => {
  const postgres = await startPostgres({ auth, sql: ["CREATE ROLE app LOGIN PASSWORD 'secret'"] })

  const client = await WireClient.login(postgres, { user: 'app', password: 'secret', database: 'postgres' })
  const refused = WireClient.login(postgres, { user: 'app', password: 'guess', database: 'postgres' })

  await expect(refused).rejects.toMatchObject({ sqlstate: '28P01' })
  expect(client.key?.pid).toBeGreaterThan(0)
  expect(client.parameters.get('client_encoding')).toBe('UTF8')
})

test('a transcript tells the messages of simple, extended and copy conversations', async () => {
  const postgres = await startPostgres()
  const client = await WireClient.login(postgres, { user: 'postgres' })

  const lines = await transcript(client, [
    { send: [query('BEGIN; SELECT 1 AS one')], until: 'Z' },
    { send: [parse('', 'SELECT $1::int / 0'), bind('', '', ['7']), describePortal(''), execute(''), sync], until: 'Z' },
    { send: [query('ROLLBACK; CREATE TEMP TABLE t (a int); COPY t FROM STDIN')], until: 'G' },
    { send: [copyData('1\n2\n'), copyDone], until: 'Z' },
  ])

  expect(lines).toEqual([
    'C BEGIN',
    'T one',
    'D 00010000000131',
    'C SELECT 1',
    'Z T',
    '1',
    'E ERROR 22012 division by zero',
    'Z E',
    'C ROLLBACK',
    'C CREATE TABLE',
    'G 0000010000',
    'C COPY 2',
    'Z I',
  ])
})

test('a single byte answers SSLRequest, and an end without a message is told', async () => {
  const postgres = await startPostgres()
  const client = await WireClient.connect(postgres)

  client.send(sslRequest)
  const answer = await client.readByte()
  client.send('00 00 00 08 00 00 00 00')
  const { messages } = await client.readToEnd()

  expect(answer).toBe('N')
  expect(messages.map(({ tag }) => tag)).toEqual(['E'])
  await expect(client.read()).rejects.toBeInstanceOf(ConnectionEnded)
})
