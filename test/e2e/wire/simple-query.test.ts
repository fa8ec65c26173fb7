import { beforeAll, expect, test } from 'vitest'
import { startChopper } from '../../support/chopper.ts'
import { bind, describePortal, execute, functionCall, parse, query, sync } from '../../support/frontend-messages.ts'
import { transcript } from '../../support/oracle.ts'
import { WireClient } from '../../support/wire.ts'
import { compare, loginDirectly, loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    sql: [
      `CREATE FUNCTION warns() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
         RAISE NOTICE 'first'; PERFORM set_config('TimeZone', 'Asia/Tokyo', false); RETURN 1;
       END $$`,
    ],
    pools: async (postgres) => ({ chopped: { servers: [await startChopper(postgres)] } }),
  })
})

test('29: an empty query is answered with EmptyQueryResponse', async () => {
  const answers = await compare(world, [
    { send: [query('')], until: 'Z' },
    { send: [query(';')], until: 'Z' },
  ])

  expect(answers).toEqual(['I', 'Z I', 'I', 'Z I'])
})

test('30: a server is held until ReadyForQuery says that no transaction is open', async () => {
  const answers = await compare(world, [
    { send: [query('BEGIN; SELECT 1 AS a; COMMIT; SELECT 2 AS b')], until: 'Z' },
    { send: [query('BEGIN')], until: 'Z' },
    { send: [query('COMMIT; BEGIN')], until: 'Z' },
    { send: [query('SELECT 3 AS c')], until: 'Z' },
    { send: [query('COMMIT')], until: 'Z' },
  ])

  expect(answers.filter((line) => line.startsWith('Z'))).toEqual(['Z I', 'Z T', 'Z T', 'Z T', 'Z I'])
})

test('31: an error ends the statements of one query with one ReadyForQuery', async () => {
  const answers = await compare(world, [{ send: [query('SELECT 1 AS a; SELECT 1/0; SELECT 2 AS b')], until: 'Z' }])

  expect(answers.slice(-2)).toEqual(['E ERROR 22012 division by zero', 'Z I'])
})

test('32: a failed transaction keeps its server until it is rolled back', async () => {
  const answers = await compare(world, [
    { send: [query('BEGIN')], until: 'Z' },
    { send: [query('SELECT 1/0')], until: 'Z' },
    { send: [query('SELECT 1')], until: 'Z' },
    { send: [query('COMMIT')], until: 'Z' },
  ])

  expect(answers.filter((line) => line.startsWith('Z'))).toEqual(['Z T', 'Z E', 'Z E', 'Z I'])
  expect(answers.filter((line) => line.startsWith('E'))[1]).toMatch(/^E ERROR 25P02/)
})

test('33: notices and parameter changes arrive between rows as the server sends them', async () => {
  const answers = await compare(world, [
    { send: [query('SELECT warns() FROM generate_series(1, 2)')], until: 'Z' },
    { send: [query("DO $$ BEGIN SET TimeZone = 'UTC'; END $$")], until: 'Z' },
    { send: [query('LISTEN a; NOTIFY a; UNLISTEN a')], until: 'Z' },
  ])

  expect(answers).toContain('N NOTICE 00000 first')
  expect(answers).toContain('S TimeZone Asia/Tokyo')
})

test('36: requests and answers that arrive byte by byte mean the same', async () => {
  const steps = [
    { send: [query('BEGIN; SELECT 7 AS a'), query('SELECT 8 AS b'), query('COMMIT')], until: 'Z', count: 3 },
    { send: [parse('', 'SELECT $1'), bind('', '', ['nine']), describePortal(''), execute(''), sync], until: 'Z' },
  ]
  const wanted = await transcript(await loginDirectly(world), steps)
  const inPieces = await startChopper(world.engine)

  const client = await WireClient.login(inPieces, { user: 'app', database: 'chopped' })
  const answers = await transcript(client, steps)

  expect(answers).toEqual(wanted)
})

test('36: a request cut at any byte means the same', async () => {
  const client = await loginTo(world, 'transaction1')
  const bytes = Buffer.concat([query('BEGIN; SELECT 7 AS a'), query('SELECT 8 AS b'), query('COMMIT')])

  for (let cut = 1; cut < bytes.length; cut++) {
    client.send(bytes.subarray(0, cut))
    await world.engine.snapshot() // the engine's loop has turned
    const answers = await transcript(client, [{ send: [bytes.subarray(cut)], until: 'Z', count: 3 }])

    expect(answers, `cut at ${cut}`).toEqual([
      'C BEGIN',
      'T a',
      'D 00010000000137',
      'C SELECT 1',
      'Z T',
      'T b',
      'D 00010000000138',
      'C SELECT 1',
      'Z T',
      'C COMMIT',
      'Z I',
    ])
  }
})

test('messages of every length around that up to which they are passed on whole', async () => {
  const steps = Array.from({ length: 24 }, (_, i) => {
    const length = 16_384 - 12 + i
    return { send: [query(`SELECT '${'x'.repeat(length)}'::text AS a`), query('SELECT 1 AS b')], until: 'Z', count: 2 }
  })

  const answers = await compare(world, steps)

  expect(answers.filter((line) => line === 'D 00010000000131')).toHaveLength(24)
})

test('37: a function call is forwarded and its ReadyForQuery counted', async () => {
  const answers = await compare(world, [
    { send: [functionCall(1317, ['seven77'])], until: 'Z' },
    { send: [functionCall(1, [])], until: 'Z' },
    { send: [functionCall(1317, ['x']), query('SELECT 1 AS a'), functionCall(1317, ['xy'])], until: 'Z', count: 3 },
  ])

  expect(answers[0]).toBe('V 0000000137')
})
