import { beforeAll, expect, test } from 'vitest'
import {
  bind,
  closePortal,
  closeStatement,
  describePortal,
  describeStatement,
  execute,
  flush,
  parse,
  query,
  int32,
  sync,
} from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import { bindBinary } from './bind-binary.ts'
import { compare, loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({ sql: ['CREATE TABLE numbers (n int PRIMARY KEY)', 'ALTER TABLE numbers OWNER TO app'] })
})

const before = 'TRUNCATE numbers'

/** The type of each message, in one word. */
function tags(answers: readonly string[]): string {
  return answers.map((line) => line.slice(0, 1)).join('')
}

/** Parse, Bind and Execute of the unnamed statement. */
function run(sql: string, values: readonly string[] = []): Buffer {
  return Buffer.concat([parse('', sql), bind('', '', values), execute('')])
}

test('38: every Sync of a pipeline is answered with one ReadyForQuery, results in order', async () => {
  const groups = Array.from({ length: 10 }, (_, group) =>
    Buffer.concat([...Array.from({ length: 100 }, (_, i) => run('SELECT $1::int', [String(100 * group + i)])), sync]),
  )

  const answers = await compare(world, [{ send: groups, until: 'Z', count: 10 }])

  const rows = answers.filter((line) => line.startsWith('D')).map((line) => Buffer.from(line.slice(14), 'hex'))
  expect(rows.map(String)).toEqual(Array.from({ length: 1000 }, (_, i) => String(i)))
  expect(answers.filter((line) => line.startsWith('Z'))).toHaveLength(10)
})

test('39: after an error everything up to Sync is skipped', async () => {
  const answers = await compare(
    world,
    [
      { send: [run('SELECT 1'), parse('', 'SELEC 1'), bind('', ''), execute(''), run('SELECT 2'), sync], until: 'Z' },
      { send: [run('SELECT 1/0'), run('SELECT 3'), sync, run('SELECT 4'), sync], until: 'Z', count: 2 },
      { send: [run('SELECT 1/0'), query('SELECT 5'), flush, sync, query('SELECT 6 AS a')], until: 'Z', count: 2 },
    ],
    {},
  )

  expect(tags(answers)).toBe('12DCEZ1EZ12DCZ1EZTDCZ')
})

test('40: an error is delivered without waiting for Sync', async () => {
  const answers = await compare(world, [
    { send: [parse('', 'SELEC 1'), flush], until: 'E' },
    { send: [run('SELECT 1')], until: 'E', count: 0 },
    { send: [sync], until: 'Z' },
    { send: [parse('', 'SELEC 1')], until: 'E' },
    { send: [sync], until: 'Z' },
  ])

  expect(tags(answers)).toBe('EZEZ')
})

test('41: Flush gives the answers so far and keeps the server', async () => {
  const answers = await compare(world, [
    { send: [parse('', 'SELECT $1::int AS a'), describeStatement(''), flush], until: 'T' },
    { send: [bind('', '', ['5']), execute(''), flush], until: 'C' },
    { send: [bind('', '', ['6']), describePortal(''), execute(''), sync], until: 'Z' },
  ])

  expect(tags(answers)).toBe('1tT2DC2TDCZ')
})

test('42: a failing statement takes back the others since the last Sync', async () => {
  const insert = 'INSERT INTO numbers VALUES (1)'
  await compare(
    world,
    [
      { send: [run(insert), run(insert), sync], until: 'Z' },
      { send: [query('SELECT count(*) AS a FROM numbers')], until: 'Z' },
    ],
    { before },
  )
  const answers = await compare(
    world,
    [
      { send: [run(insert), sync, run(insert), sync], until: 'Z', count: 2 },
      { send: [query('SELECT count(*) AS a FROM numbers')], until: 'Z' },
    ],
    { before },
  )

  expect(answers.slice(-3)).toEqual(['D 00010000000131', 'C SELECT 1', 'Z I'])
})

test('43: a simple query may follow a Parse without Sync', async () => {
  const answers = await compare(world, [
    { send: [parse('', 'SELECT 1'), query('SELECT 2 AS a')], until: 'Z' },
    { send: [run('SELECT 3'), query('SELECT 4 AS a'), sync], until: 'Z', count: 2 },
  ])

  expect(tags(answers)).toBe('1TDCZ12DCTDCZZ')
})

test('44: unknown statements and portals are errors that end with Sync', async () => {
  const answers = await compare(world, [
    { send: [bind('', 'nothing'), sync], until: 'Z' },
    { send: [describeStatement('nothing'), sync], until: 'Z' },
    { send: [describePortal('nothing'), sync], until: 'Z' },
    { send: [execute('nothing'), sync], until: 'Z' },
    { send: [query('SELECT 1 AS a')], until: 'Z' },
  ])

  expect(
    answers
      .filter((line) => line.startsWith('E'))
      .map((line) => line.split(' ')[2])
      .join(' '),
  ).toBe('26000 26000 34000 34000')
})

test('45: a statement name parsed twice without Close is 42P05', async () => {
  const answers = await compare(world, [
    { send: [query('BEGIN')], until: 'Z' },
    { send: [parse('twice', 'SELECT 1'), parse('twice', 'SELECT 2'), sync], until: 'Z' },
    { send: [query('ROLLBACK')], until: 'Z' },
    { send: [query('BEGIN')], until: 'Z' },
    { send: [query('DEALLOCATE twice')], until: 'Z' },
    { send: [query('COMMIT')], until: 'Z' },
  ])

  expect(answers).toContain('E ERROR 42P05 prepared statement "twice" already exists')
})

test('46: a name whose Parse failed may be used again', async () => {
  const answers = await compare(world, [
    { send: [parse('failed', 'SELEC 1'), sync], until: 'Z' },
    {
      send: [
        query('BEGIN'),
        parse('failed', 'SELECT 1'),
        bind('', 'failed'),
        execute(''),
        closeStatement('failed'),
        flush,
      ],
      until: '3',
    },
    { send: [sync, query('COMMIT')], until: 'Z', count: 2 },
  ])

  expect(tags(answers)).toBe('EZCZ12DC3ZCZ')
})

test('47: Close of an unknown name is CloseComplete, in its place in the stream', async () => {
  const answers = await compare(world, [
    { send: [closeStatement('nothing'), sync], until: 'Z' },
    { send: [parse('', 'SELECT 1'), closeStatement(''), closePortal('nothing'), sync], until: 'Z' },
    { send: [closePortal('p'), run('SELECT 1'), closePortal(''), closeStatement('a'), sync], until: 'Z' },
  ])

  expect(tags(answers)).toBe('3Z133Z312DC33Z')
})

test('48: a Describe or Close alone before a Sync is answered', async () => {
  const answers = await compare(world, [
    { send: [query('BEGIN')], until: 'Z' },
    { send: [parse('s', 'SELECT $1::int AS a'), sync], until: 'Z' },
    { send: [describeStatement('s'), sync], until: 'Z' },
    { send: [closeStatement('s'), sync], until: 'Z' },
    { send: [sync], until: 'Z' },
    { send: [query('COMMIT')], until: 'Z' },
    { send: [sync, sync], until: 'Z', count: 2 },
  ])

  expect(tags(answers)).toBe('CZ1ZtTZ3ZZCZZZ')
})

test('49: two named portals of one transaction are fetched from in turn', async () => {
  const answers = await compare(world, [
    { send: [query('BEGIN')], until: 'Z' },
    {
      send: [parse('', 'SELECT generate_series($1::int, 9)'), bind('a', '', ['1']), bind('b', '', ['5'])],
      until: '',
      count: 0,
    },
    { send: [execute('a', 1), execute('b', 1), execute('a', 1), execute('b', 1)], until: '', count: 0 },
    { send: [closePortal('a'), execute('b'), sync], until: 'Z' },
    { send: [query('COMMIT')], until: 'Z' },
  ])

  expect(
    answers
      .filter((line) => line.startsWith('D'))
      .map((line) => line.slice(-1))
      .join(''),
  ).toBe('1526789')
})

test('50: a portal is suspended at its row limit and goes on, across a Sync in a transaction', async () => {
  const answers = await compare(world, [
    { send: [query('BEGIN')], until: 'Z' },
    {
      send: [parse('', 'SELECT generate_series(1, 5)'), bind('p', ''), execute('p', 2), flush],
      until: 's',
    },
    { send: [execute('p', 2), sync], until: 'Z' },
    { send: [execute('p', 2), sync], until: 'Z' },
    { send: [query('COMMIT')], until: 'Z' },
    { send: [parse('', 'SELECT generate_series(1, 5)'), bind('', ''), execute('', 2), execute(''), sync], until: 'Z' },
  ])

  expect(tags(answers)).toBe('CZ12DDsDDsZDCZCZ12DDsDDDCZ')
})

test('51: no other client gets the server between an Execute and its Sync', async () => {
  const first = await loginTo(world, 'transaction1')
  const second = await loginTo(world, 'transaction1')
  first.send(parse('', 'SELECT generate_series(1, 3)'), bind('p', ''), execute('p', 1), flush)
  await first.readUntil('s')

  second.send(query('SELECT 2 AS b'))
  await world.engine.poolUntil('transaction1', (pool) => pool.clientsWaiting === 1)
  first.send(execute('p', 1), flush)
  await first.readUntil('s')
  const secondUnread = second.unread
  first.send(sync)
  await first.readUntil('Z')
  const answers = await second.readUntil('Z')

  expect(secondUnread).toBe(0)
  expect(answers.map(describe)).toEqual(['T b', 'D 00010000000132', 'C SELECT 1', 'Z I'])
})

test('52: binary parameters and results pass, and so do 65,535 parameters', async () => {
  const many = Array.from({ length: 65_535 }, (_, i) => `$${i + 1}::int4`).join(',')

  const answers = await compare(world, [
    {
      send: [parse('', 'SELECT $1::int8, $2::bytea'), bindBinary(int8(42n), Buffer.from('ff0001', 'hex'))],
      until: '',
      count: 0,
    },
    { send: [execute(''), sync], until: 'Z' },
    { send: [parse('', `SELECT sum(n) FROM unnest(ARRAY[${many}]) AS t(n)`)], until: '', count: 0 },
    { send: [bindBinary(...Array.from({ length: 65_535 }, (_, i) => int32(i))), execute(''), sync], until: 'Z' },
  ])

  expect(answers).toContain('D 000200000008000000000000002a00000003ff0001')
  expect(answers.filter((line) => line.startsWith('C'))).toEqual(['C SELECT 1', 'C SELECT 1'])
})

function int8(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64BE(value)
  return bytes
}

test('57: BEGIN and COMMIT by the extended protocol open and close a transaction', async () => {
  const answers = await compare(
    world,
    [
      { send: [run('BEGIN'), sync], until: 'Z' },
      { send: [run('INSERT INTO numbers VALUES (1)'), sync], until: 'Z' },
      { send: [run('ROLLBACK'), sync], until: 'Z' },
      { send: [run("SET TimeZone = 'Asia/Tokyo'"), sync], until: 'Z' },
      { send: [run('SHOW TimeZone'), sync], until: 'Z' },
      { send: [run('SELECT count(*)::int FROM numbers'), sync], until: 'Z' },
    ],
    { before },
  )

  expect(answers.filter((line) => line.startsWith('Z'))).toEqual(['Z T', 'Z T', 'Z I', 'Z I', 'Z I', 'Z I'])
})

test('59: a statement name of 5,000 bytes and a parameter of 5 MB pass', async () => {
  const name = 's'.repeat(5000)
  const big = 'x'.repeat(5_000_000)

  const answers = await compare(world, [
    {
      send: [query('BEGIN'), parse(name, 'SELECT length($1), $1'), bind('p', name, [big]), execute('p'), flush],
      until: 'C',
      count: 2,
    },
    { send: [closeStatement(name), sync, query('COMMIT')], until: 'Z', count: 2 },
  ])

  expect(answers.find((line) => line.startsWith('D'))).toHaveLength(2 + 2 * (2 + 4 + 7 + 4 + 5_000_000))
})
