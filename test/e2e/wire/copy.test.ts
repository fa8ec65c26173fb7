import { beforeAll, expect, test } from 'vitest'
import {
  bind,
  copyData,
  copyDone,
  copyFail,
  execute,
  flush,
  parse,
  query,
  sync,
} from '../../support/frontend-messages.ts'
import { transcript } from '../../support/oracle.ts'
import type { Step } from '../../support/oracle.ts'
import { compare, loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    sql: [
      'CREATE TABLE copied (n int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)',
      'ALTER TABLE copied OWNER TO app',
      'CREATE TABLE strict (n int CHECK (n < 10))',
      'ALTER TABLE strict OWNER TO app',
      'CREATE TABLE wide (t text)',
      'CREATE TABLE failing (n int)',
      'ALTER TABLE failing OWNER TO app',
      "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$",
      'CREATE TRIGGER fails BEFORE INSERT ON failing EXECUTE FUNCTION fails()',
      'CREATE TABLE refusing (n int)',
      'ALTER TABLE refusing OWNER TO app',
      'CREATE TRIGGER fails BEFORE INSERT ON refusing FOR EACH STATEMENT EXECUTE FUNCTION fails()',
      'ALTER TABLE wide OWNER TO app',
    ],
  })
})

const before = 'TRUNCATE copied, strict, wide'
const count = query('SELECT count(*)::int AS a FROM copied')

/** What each way of COPY IN is begun with, in the simple and in the extended protocol. */
const ways = [
  { protocol: 'simple', begin: (sql: string) => [query(sql)], end: [] },
  { protocol: 'extended', begin: (sql: string) => [parse('', sql), bind('', ''), execute(''), flush], end: [sync] },
] as const

/** What follows CopyInResponse. */
const copies: Readonly<Record<string, { table?: string; data: readonly Buffer[] }>> = {
  'ends with CopyDone': { data: [copyData('1\n2\n'), copyDone] },
  'ends with CopyFail': { data: [copyData('1\n'), copyFail('no more')] },
  'has a bad row in the middle': { data: [copyData('1\n'), copyData('x\n'), copyData('2\n'), copyDone] },
  'breaks a check': { table: 'strict', data: [copyData('1\n11\n'), copyDone] },
  'fails after CopyDone': { data: [copyData('1\n1\n'), copyDone] },
  'has no rows': { data: [copyDone] },
  'has rows in many pieces': {
    data: [...Array.from({ length: 500 }, (_, i) => copyData(`${i}\n`)), copyDone],
  },
  'has a piece of 3 MB': {
    table: 'wide',
    data: [copyData(Array.from({ length: 30 }, () => `${'x'.repeat(100_000)}\n`).join('')), copyDone],
  },
}

for (const { protocol, begin, end } of ways) {
  test.for(Object.entries(copies))(`61: ${protocol} COPY IN that %s`, async ([, { table = 'copied', data }]) => {
    const steps: Step[] = [
      { send: begin(`COPY ${table} FROM STDIN`), until: 'G' },
      { send: [...data, ...end], until: 'Z' },
      { send: [count], until: 'Z' },
    ]
    const answers = await compare(world, steps, { before })

    expect(answers.at(-1)).toBe('Z I')
  })

  test.for(Object.entries(copies))(
    `61: ${protocol} COPY IN sent in one go that %s`,
    async ([, { table = 'copied', data }]) => {
      const steps: Step[] = [
        { send: [...begin(`COPY ${table} FROM STDIN`), ...data, ...end, count], until: 'Z', count: 2 },
      ]
      const answers = await compare(world, steps, { before })

      expect(answers.at(-1)).toBe('Z I')
    },
  )

  test(`61: ${protocol} COPY IN into a table that does not exist leaves data to be dropped`, async () => {
    const steps: Step[] = [
      { send: [...begin('COPY nothing FROM STDIN'), copyData('1\n'), copyDone, ...end], until: 'Z' },
      { send: [count], until: 'Z' },
    ]
    const answers = await compare(world, steps, { before })

    expect(answers.at(-1)).toBe('Z I')
  })
}

test('62: Sync and Flush during COPY IN are ignored, and one after CopyDone is answered', async () => {
  const answers = await compare(
    world,
    [
      { send: [parse('', 'COPY copied FROM STDIN'), bind('', ''), execute(''), sync], until: 'G' },
      { send: [copyData('1\n'), sync, flush, copyData('2\n'), copyDone, sync], until: 'Z' },
      { send: [query('COPY copied FROM STDIN')], until: 'G' },
      { send: [copyData('3\n'), sync, flush, copyDone], until: 'Z' },
      { send: [sync], until: 'Z' },
      { send: [count], until: 'Z' },
    ],
    { before },
  )

  expect(answers).toContain('D 00010000000133')
})

test.for(['copied', 'failing'])(
  '62: a COPY into %s that fails is followed by one ReadyForQuery for each Sync it has not read, as libpq asks',
  async (table) => {
    const answers = await compare(
      world,
      [
        { send: [parse('', `COPY ${table} FROM STDIN`), bind('', ''), execute(''), sync], until: 'G' },
        { send: [copyData('x\n')], until: 'E' },
        ...(table === 'failing' ? [{ send: [], until: 'Z' }] : []),
        { send: [copyData('1\n'), copyDone, sync], until: 'Z' },
        { send: [count], until: 'Z' },
        { send: [parse('', 'SELECT 1'), bind('', ''), execute(''), sync], until: 'Z' },
      ],
      { before },
    )

    expect(answers.slice(-5)).toEqual(['1', '2', 'D 00010000000131', 'C SELECT 1', 'Z I'])
  },
)

test('62: an unexpected message in COPY IN ends the connection as PostgreSQL does', async () => {
  const answers = await compare(
    world,
    [
      { send: [query('COPY copied FROM STDIN')], until: 'G' },
      { send: [copyData('1\n'), query('SELECT 1')], until: 'E', count: 2 },
    ],
    { before },
  )

  expect(answers.at(-1)).toMatch(/^E FATAL 08P01/)
})

test('63: a client that dies in the middle of COPY IN commits nothing and frees its place', async () => {
  const client = await loginTo(world, 'transaction1')
  await world.postgres.sql(before, [], 'app')
  client.send(query('COPY copied FROM STDIN'))
  await client.readUntil('G')
  client.send(copyData('1\n'))

  client.reset()

  const next = await loginTo(world, 'transaction1')
  next.send(count)
  const rows = (await next.readUntil('Z')).filter(({ tag }) => tag === 'D')
  expect(rows.map(({ body }) => body.toString('hex'))).toEqual(['00010000000130'])
  expect((await world.engine.poolUntil('transaction1', (pool) => pool.clientsActive === 0)).serversActive).toBe(0)
})

test('64: COPY OUT passes as PostgreSQL sends it', async () => {
  const answers = await compare(world, [
    { send: [query('COPY (SELECT generate_series(1, 1000)) TO STDOUT')], until: 'Z' },
    {
      send: [parse('', 'COPY (SELECT generate_series(1, 3)) TO STDOUT'), bind('', ''), execute(''), sync],
      until: 'Z',
    },
    { send: [query('COPY (SELECT 1/(5-n) FROM generate_series(1, 9) n) TO STDOUT')], until: 'Z' },
  ])

  expect(answers.filter((line) => line.startsWith('d'))).toHaveLength(1007)
})

test('66: COPY in a query of several statements, and twice', async () => {
  const answers = await compare(
    world,
    [
      { send: [query('COPY copied FROM STDIN; SELECT 1 AS a')], until: 'G' },
      { send: [copyData('1\n'), copyDone], until: 'Z' },
      { send: [query('COPY copied FROM STDIN; COPY copied FROM STDIN; SELECT 2 AS a')], until: 'G' },
      { send: [copyData('2\n'), copyDone], until: 'G' },
      { send: [copyData('3\n'), copyDone], until: 'Z' },
      { send: [query('COPY copied TO STDOUT; COPY copied FROM STDIN')], until: 'G' },
      { send: [copyData('4\n'), copyDone], until: 'Z' },
      {
        send: [
          query('COPY copied FROM STDIN; COPY copied FROM STDIN'),
          copyData('5\n'),
          copyDone,
          copyData('6\n'),
          copyDone,
          count,
        ],
        until: 'Z',
        count: 2,
      },
    ],
    { before },
  )

  expect(answers.slice(-4)).toEqual(['T a', 'D 00010000000136', 'C SELECT 1', 'Z I'])
})

test('62: a COPY that fails before it reads, sent whole with its Syncs, is answered for each of them', async () => {
  const whole = [
    parse('', 'COPY refusing FROM STDIN'),
    bind('', ''),
    execute(''),
    copyData('1\n'),
    sync,
    copyDone,
    sync,
  ]
  const answers = await compare(
    world,
    [
      { send: whole, until: 'Z', count: 2 },
      { send: [count], until: 'Z' },
      { send: [query('BEGIN'), ...whole], until: 'Z', count: 3 },
      { send: [query('ROLLBACK'), count], until: 'Z', count: 2 },
    ],
    { before },
  )

  expect(answers.filter((line) => line.startsWith('Z'))).toEqual([
    ...Array(3).fill('Z I'),
    'Z T',
    'Z E',
    'Z E',
    'Z I',
    'Z I',
  ])
})

test('62: a server whose copy failed is queried once more, and serves the next client', async () => {
  const [client, next] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  const pid = query('SELECT pg_backend_pid() AS a')
  const [before] = (await transcript(client, [{ send: [pid], until: 'Z' }])).filter((line) => line.startsWith('D'))

  await transcript(client, [
    { send: [parse('', 'COPY copied FROM STDIN'), bind('', ''), execute(''), sync], until: 'G' },
    { send: [copyData('x\n'), copyDone, sync], until: 'Z' },
  ])
  const answers = await transcript(next, [{ send: [pid], until: 'Z' }])

  expect(answers).toContain(before)
  for (const one of [client, next]) one.destroy()
})
