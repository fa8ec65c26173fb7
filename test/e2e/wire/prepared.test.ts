/** Prepared statements in transaction mode: a client's names follow it to any server, and are its own. */
import { beforeAll, expect, test } from 'vitest'
import {
  bind,
  closeStatement,
  describeStatement,
  execute,
  flush,
  message,
  parse,
  query,
  sync,
} from '../../support/frontend-messages.ts'
import { describe, transcript } from '../../support/oracle.ts'
import { lacks } from '../../support/postgres.ts'
import { commandComplete, ready, startScriptedServer } from '../../support/scripted-server.ts'
import type { ScriptedServer } from '../../support/scripted-server.ts'
import type { WireClient } from '../../support/wire.ts'
import { compare, loginDirectly, loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World
let scripted: ScriptedServer

const parseComplete = message('1')
/** ParameterDescription and NoData: a statement without parameters that returns no rows. */
const described = [message('t', Buffer.alloc(2)), message('n')]

beforeAll(async () => {
  scripted = await startScriptedServer((connection) => connection.acceptLogin())
  world = await startWorld({
    sql: [
      'CREATE TABLE numbers (n int PRIMARY KEY)',
      'ALTER TABLE numbers OWNER TO app',
      ...['a', 'b'].map((schema) => `CREATE SCHEMA ${schema} AUTHORIZATION app`),
      'CREATE TABLE a.t AS SELECT 1 AS v',
      "CREATE TABLE b.t AS SELECT 'one' AS v",
      'ALTER TABLE a.t OWNER TO app',
      'ALTER TABLE b.t OWNER TO app',
    ],
    pools: () => ({
      small: { pool_mode: 'transaction', pool_size: 1, max_prepared_statements: 2 },
      transaction2: { pool_mode: 'transaction', pool_size: 2 },
      changing: { pool_mode: 'transaction', pool_size: 1 },
      scripted: { pool_mode: 'transaction', pool_size: 1, servers: [{ host: scripted.host, port: scripted.port }] },
    }),
  })
})

const before = 'TRUNCATE numbers'

async function answers(client: WireClient, ...sent: readonly Uint8Array[]): Promise<string[]> {
  client.send(...sent)
  const count = Buffer.concat(sent).toString('latin1').split(sync.toString('latin1')).length - 1
  return (await client.readUntil('Z', count)).map(describe)
}

/** The text of each row. */
function rows(lines: readonly string[]): string[] {
  return lines.filter((line) => line.startsWith('D')).map((line) => Buffer.from(line.slice(14), 'hex').toString())
}

/** The type of each message. */
function tags(lines: readonly string[]): string {
  return lines.map((line) => line.slice(0, 1)).join('')
}

test('44, 45, 46, 47: names that are unknown, taken, failed and closed are answered as PostgreSQL does', async () => {
  const same = await compare(
    world,
    [
      { send: [bind('', 'missing'), execute(''), sync], until: 'Z' },
      { send: [describeStatement('missing'), sync], until: 'Z' },
      { send: [closeStatement('missing'), sync], until: 'Z' },
      { send: [parse('one', 'SELECT 1'), sync], until: 'Z' },
      { send: [parse('one', 'SELECT 2'), sync], until: 'Z' },
      { send: [bind('', 'one'), execute(''), sync], until: 'Z' },
      {
        send: [parse('bad', 'SELEC'), sync, parse('bad', 'SELECT 3'), bind('', 'bad'), execute(''), sync],
        until: 'Z',
        count: 2,
      },
      { send: [closeStatement('one'), parse('one', 'SELECT 4'), bind('', 'one'), execute(''), sync], until: 'Z' },
      { send: [parse('two', 'SELECT $1::int'), bind('', 'two', []), execute(''), sync], until: 'Z' },
    ],
    { before },
  )

  expect(tags(same)).toBe('EZEZ3Z1ZEZ2DCZEZ12DCZ312DCZ1EZ')
})

test('a pipeline of parses, an error among them, keeps the names that PostgreSQL keeps', async () => {
  const same = await compare(
    world,
    [
      {
        send: [
          parse('a', 'SELECT 1'),
          bind('', 'a'),
          execute(''),
          parse('b', 'SELECT 1/0'),
          bind('', 'b'),
          execute(''),
          parse('c', 'SELECT 3'),
          closeStatement('a'),
          sync,
        ],
        until: 'Z',
      },
      { send: [bind('', 'a'), execute(''), sync], until: 'Z' },
      { send: [describeStatement('b'), sync], until: 'Z' },
      { send: [bind('', 'c'), execute(''), sync], until: 'Z' },
    ],
    { before },
  )

  expect(tags(same)).toBe('12DC1EZ2DCZtTZEZ')
})

test('in a failed transaction a statement that the server knows is refused as PostgreSQL refuses it', async () => {
  const other = await loginTo(world, 'transaction1')
  await answers(other, parse('x', 'SELECT 1'), sync)
  const same = await compare(world, [
    { send: [query('BEGIN'), query('SELECT 1/0')], until: 'Z', count: 2 },
    { send: [parse('x', 'SELECT 1'), sync], until: 'Z' },
    { send: [parse('y', 'ROLLBACK'), bind('', 'y'), execute(''), sync], until: 'Z' },
    { send: [parse('x', 'SELECT 1'), bind('', 'x'), execute(''), sync], until: 'Z' },
  ])

  expect(tags(same)).toBe('CZEZEZ12CZ12DCZ')
})

test.each([
  ['a simple DEALLOCATE', query('DEALLOCATE "One"'), 'CZ'],
  ['DEALLOCATE ALL', query('DEALLOCATE ALL'), 'CZ'],
  ['DISCARD ALL', query('DISCARD ALL'), 'CZ'],
  [
    'an extended DEALLOCATE',
    Buffer.concat([parse('', 'deallocate prepare "One" ;'), bind('', ''), execute(''), sync]),
    '12CZ',
  ],
])('55: %s takes the name away, and it can be given again', async (_, deallocate, done) => {
  const same = await compare(world, [
    { send: [parse('One', 'SELECT 1'), bind('', 'One'), execute(''), sync], until: 'Z' },
    { send: [deallocate], until: 'Z' },
    { send: [bind('', 'One'), execute(''), sync], until: 'Z' },
    { send: [parse('One', 'SELECT 2'), bind('', 'One'), execute(''), sync], until: 'Z' },
  ])

  expect(tags(same)).toBe(`12DCZ${done}EZ12DCZ`)
})

test('55: DEALLOCATE ALL in a pipeline takes away what stood before it and not what comes after', async () => {
  const same = await compare(world, [
    { send: [parse('one', 'SELECT 1'), sync], until: 'Z' },
    {
      send: [
        Buffer.concat([parse('', 'DEALLOCATE ALL'), bind('', ''), execute('')]),
        parse('two', 'SELECT 2'),
        bind('', 'two'),
        execute(''),
        sync,
      ],
      until: 'Z',
    },
    { send: [bind('', 'two'), execute(''), sync], until: 'Z' },
    { send: [bind('', 'one'), execute(''), sync], until: 'Z' },
  ])

  expect(tags(same)).toBe('1Z12C12DCZ2DCZEZ')
})

test('53: two clients have the same name for different statements, and share one server', async () => {
  const [one, two] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  await answers(one, parse('s', "SELECT 'one'"), sync)
  await answers(two, parse('s', "SELECT 'two'"), sync)

  for (let round = 0; round < 5; round++) {
    expect(rows(await answers(one, bind('', 's'), execute(''), sync))).toEqual(['one'])
    expect(rows(await answers(two, bind('', 's'), execute(''), sync))).toEqual(['two'])
  }
})

test('a statement follows its client to a server that has never seen it', async () => {
  const holder = await loginTo(world, 'transaction5')
  const client = await loginTo(world, 'transaction5')
  await answers(client, parse('s', 'SELECT pg_backend_pid()'), sync)
  const first = rows(await answers(client, bind('', 's'), execute(''), sync))

  holder.send(query('BEGIN'))
  await holder.readUntil('Z')
  const second = await answers(client, describeStatement('s'), bind('', 's'), execute(''), sync)

  expect(rows(second)).not.toEqual(first)
  expect(tags(second)).toBe('tT2DCZ')
  holder.send(query('COMMIT'))
  await holder.readUntil('Z')
})

test('equal statements of many clients are one on the server', async () => {
  for (let index = 0; index < 10; index++) {
    const client = await loginTo(world, 'transaction1')
    await answers(client, parse(`own_${index}`, 'SELECT 42 AS shared'), sync)
  }
  const client = await loginTo(world, 'transaction1')

  const sql = "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT 42 AS shared'"
  const counted = await answers(client, parse('', sql), bind('', ''), execute(''), sync)

  expect(rows(counted)).toEqual(['1'])
})

test('54: a hundred statements in one pipeline over a limit of two answer in order, and the server keeps two', async () => {
  const client = await loginTo(world, 'small')
  const names = Array.from({ length: 100 }, (_, index) => `s${index}`)
  const parsed = names.flatMap((name, index) => [parse(name, `SELECT ${index}`), bind('', name), execute('')])

  const first = await answers(client, ...parsed, sync)
  const again = await answers(client, ...names.toReversed().flatMap((name) => [bind('', name), execute('')]), sync)
  const left = await answers(
    client,
    parse('', 'SELECT count(*) FROM pg_prepared_statements'),
    bind('', ''),
    execute(''),
    sync,
  )

  expect(rows(first)).toEqual(names.map((_, index) => String(index)))
  expect(tags(first)).toBe(`${'12DC'.repeat(100)}Z`)
  expect(rows(again)).toEqual(names.map((_, index) => String(index)).toReversed())
  expect(rows(left)).toEqual(['2'])
})

test('54: an error in the middle of evictions loses no statement', async () => {
  const client = await loginTo(world, 'small')
  for (const name of ['a', 'b', 'c', 'd']) await answers(client, parse(name, `SELECT '${name}'`), sync)

  const broken = await answers(
    client,
    bind('', 'a'),
    execute(''),
    parse('', 'SELECT 1/0'),
    bind('', ''),
    execute(''),
    bind('', 'b'),
    execute(''),
    bind('', 'c'),
    execute(''),
    sync,
  )
  const after: string[] = []
  for (const name of ['d', 'c', 'b', 'a']) after.push(...rows(await answers(client, bind('', name), execute(''), sync)))

  expect(tags(broken)).toBe('2DC1EZ')
  expect(after).toEqual(['d', 'c', 'b', 'a'])
})

test('56: a plan that no longer fits fails once and is prepared anew, whatever the language of the message', async () => {
  const client = await loginTo(world, 'transaction1')
  await world.postgres.sql('CREATE TABLE grown (a int)', [], 'app')
  await world.postgres.sql('GRANT ALL ON grown TO app', [], 'app')
  await answers(client, parse('grown', 'SELECT * FROM grown'), bind('', 'grown'), execute(''), sync)

  await world.postgres.sql('ALTER TABLE grown ADD b int', [], 'app')
  const failed = await answers(client, bind('', 'grown'), execute(''), sync)
  const healed = await answers(client, bind('', 'grown'), execute(''), sync)

  expect(failed[0]).toContain('0A000')
  expect(tags(healed)).toBe('2CZ')
})

test('a server whose statements were taken away behind our back is found out and given them again', async () => {
  const client = await loginTo(world, 'transaction1')
  await answers(client, parse('kept', 'SELECT 7'), bind('', 'kept'), execute(''), sync)
  // In a function it is not seen: the server has less than the proxy assumes.
  await answers(client, parse('', "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$"), bind('', ''), execute(''), sync)

  const failed = await answers(client, bind('', 'kept'), execute(''), sync)
  const healed = await answers(client, bind('', 'kept'), execute(''), sync)

  expect(failed[0]).toContain('26000')
  expect(failed[0]).toContain('"kept"')
  expect(rows(healed)).toEqual(['7'])
})

test('41: a Parse that the server knows already is answered at Flush, in its place', async () => {
  const [one, two] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  await answers(one, parse('s', 'SELECT 5'), sync)

  two.send(parse('mine', 'SELECT 5'), describeStatement('mine'), flush)
  const described = (await two.readUntil('T')).map(describe)
  const executed = await answers(two, bind('', 'mine'), execute(''), sync)

  expect(tags(described)).toBe('1tT')
  expect(rows(executed)).toEqual(['5'])
})

test('59: statements and parameters larger than any buffer pass', async () => {
  const client = await loginTo(world, 'transaction1')
  const long = 'x'.repeat(300_000)

  const first = await answers(
    client,
    parse('long', `SELECT length('${long}') + $1::int`),
    bind('', 'long', ['1']),
    execute(''),
    sync,
  )
  const other = await loginTo(world, 'transaction1')
  await answers(other, parse('value', 'SELECT length($1::text)'), sync)
  const second = await answers(other, bind('', 'value', ['y'.repeat(1_000_000)]), execute(''), sync)
  const again = await answers(client, bind('', 'long', ['2']), execute(''), sync)

  expect(rows(first)).toEqual(['300001'])
  expect(rows(second)).toEqual(['1000000'])
  expect(rows(again)).toEqual(['300002'])
})

test('a client that leaves takes its names along, and its statements go when no client has them', async () => {
  const client = await loginTo(world, 'small')
  await answers(client, parse('mine', 'SELECT 11'), sync)
  client.close()
  await client.readToEnd()

  const other = await loginTo(world, 'small')
  const refused = await answers(other, bind('', 'mine'), execute(''), sync)

  expect(refused[0]).toContain('26000')
})

test('58: one text under two search paths is two statements, though one server has both', async () => {
  const login = async (path: string): Promise<WireClient> =>
    await loginTo(world, 'transaction1', { parameters: { search_path: path } })
  const [first, second, again] = [await login('a'), await login('b'), await login('a')]
  const asked = [parse('s', 'SELECT v FROM t'), bind('', 's'), execute(''), sync]

  const seen = [await answers(first, ...asked), await answers(second, ...asked), await answers(again, ...asked)]
  const later = [await answers(second, ...asked.slice(1)), await answers(first, ...asked.slice(1))]

  expect(seen.map(rows)).toEqual([['1'], ['one'], ['1']])
  expect(later.map(rows)).toEqual([['one'], ['1']])
  for (const client of [first, second, again]) client.destroy()
})

test('58: a text is read with the time zone and the encoding of the client that prepared it', async () => {
  const [tokyo, berlin, latin] = [
    await loginTo(world, 'transaction1', { parameters: { TimeZone: 'Asia/Tokyo' } }),
    await loginTo(world, 'transaction1', { parameters: { TimeZone: 'Europe/Berlin' } }),
    await loginTo(world, 'transaction1', { parameters: { client_encoding: 'LATIN1' } }),
  ]
  const noon = [
    parse('s', `SELECT extract(epoch FROM '2000-01-01'::timestamptz)::int`),
    bind('', 's'),
    execute(''),
    sync,
  ]
  const umlaut = [parse('s', `SELECT length('ü')`), bind('', 's'), execute(''), sync]

  const seen = [await answers(tokyo, ...noon), await answers(berlin, ...noon)].map(rows)
  const utf8 = await answers(await loginTo(world, 'transaction1'), ...umlaut)

  expect(seen).toEqual([['946652400'], ['946681200']])
  expect([rows(utf8), rows(await answers(latin, ...umlaut))]).toEqual([['1'], ['2']])
  for (const client of [tokyo, berlin, latin]) client.destroy()
})

test('58: a statement means what its client’s search path makes of it now, on whatever server', async ({ skip }) => {
  skip(lacks('a search_path that is reported', 18))
  const [client, other] = [await loginTo(world, 'transaction5'), await loginTo(world, 'transaction5')]
  const ask = async (one: WireClient, sql: string): Promise<string[]> =>
    await transcript(one, [{ send: [query(sql)], until: 'Z' }])
  const use = [bind('', 's'), execute(''), sync]
  await ask(client, 'SET search_path = a')
  await answers(client, parse('s', 'SELECT v FROM t'), sync)
  const first = await answers(client, ...use)
  await ask(client, 'SET search_path = b')

  const second = await answers(client, ...use)
  await ask(other, 'BEGIN')
  const third = await answers(client, ...use)
  await ask(other, 'COMMIT')
  const fourth = await answers(client, ...use)

  expect([first, second, third, fourth].map(rows)).toEqual([['1'], ['one'], ['one'], ['one']])
  for (const one of [client, other]) one.destroy()
})

test('55: a DEALLOCATE that is not alone in its query is not translated: 26000, and the client goes on', async () => {
  const client = await loginTo(world, 'transaction1')
  await answers(client, parse('s', 'SELECT 5'), sync)

  const said = await transcript(client, [{ send: [query('DEALLOCATE s; SELECT 1')], until: 'Z' }])
  const after = await answers(client, bind('', 's'), execute(''), sync)

  expect(said).toEqual(['E ERROR 26000 prepared statement "s" does not exist', 'Z I'])
  expect(rows(after)).toEqual(['5'])
  client.destroy()
})

test('44: an error speaks of a statement by its client’s name, also when the client has closed it since', async () => {
  const tooMany = bind('', 'mine', ['1'])

  const same = await compare(world, [
    { send: [parse('mine', 'SELECT 1'), sync], until: 'Z' },
    { send: [tooMany, sync, closeStatement('mine'), sync], until: 'Z', count: 2 },
    { send: [parse('mine', 'SELECT 2'), sync], until: 'Z' },
    { send: [tooMany, closeStatement('mine'), parse('mine', 'SELECT 3'), sync], until: 'Z' },
  ])

  const message = 'bind message supplies 1 parameters, but prepared statement "mine" requires 0'
  expect(same.filter((line) => line.startsWith('E'))).toEqual([`E ERROR 08P01 ${message}`, `E ERROR 08P01 ${message}`])
})

test('44: a session does not have the statement by which the proxy has set its parameters', async () => {
  const same = await compare(world, [{ send: [describeStatement(''), sync], until: 'Z' }], {
    login: { parameters: { application_name: 'its own' } },
  })

  expect(tags(same)).toBe('EZ')
})

const bindAndExecute = [bind('', ''), execute(''), sync]

test.for(['transaction1', 'transaction5'] as const)(
  '53: the statement without a name is each client’s own too, on any server of %s',
  async (pool) => {
    const clients = await Promise.all(Array.from({ length: 4 }, () => loginTo(world, pool)))
    for (const [index, client] of clients.entries()) await answers(client, parse('', `SELECT '${index}'`), sync)

    const found: string[] = []
    for (const client of [...clients, ...clients.toReversed()]) {
      await answers(client, describeStatement(''), sync)
      found.push(...rows(await answers(client, ...bindAndExecute)))
    }
    for (const client of clients) client.destroy()

    expect(found).toEqual(['0', '1', '2', '3', '3', '2', '1', '0'])
  },
)

const unknown = expect.stringContaining('E ERROR 26000 unnamed prepared statement does not exist')

test.for([
  ['that has prepared none', []],
  ['whose statement was closed', [parse('', "SELECT 'mine'"), sync, closeStatement(''), sync]],
  ['whose statement went with a query', [parse('', "SELECT 'mine'"), sync, query('SELECT 1')]],
  ['whose statement was wrong', [parse('', 'SELEC'), sync]],
  ['whose statement was skipped', [parse('', 'SELEC'), parse('', "SELECT 'mine'"), sync]],
] as const)('53: a client %s never gets that of another', async ([, before]) => {
  const [client, other] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  const ends = before.filter((sent) => sent === sync || sent[0] === 0x51).length
  if (before.length > 0) {
    client.send(...before)
    await client.readUntil('Z', ends)
  }
  await answers(other, parse('', "SELECT 'of the other'"), sync)

  const first = await answers(client, ...bindAndExecute)
  const second = await answers(client, ...bindAndExecute)
  const others = await answers(other, ...bindAndExecute)
  for (const one of [client, other]) one.destroy()

  expect([first[0], second[0]]).toEqual([unknown, unknown])
  expect(rows(others)).toEqual(['of the other'])
})

test('53: a simple DEALLOCATE takes the unnamed statement away, as every simple query does', async () => {
  const same = await compare(world, [
    { send: [parse('named', 'SELECT 1'), parse('', 'SELECT 2'), sync], until: 'Z' },
    { send: [query('DEALLOCATE named')], until: 'Z' },
    { send: [...bindAndExecute], until: 'Z' },
  ])

  expect(tags(same)).toBe('11ZCZEZ')
})

test('53: a DEALLOCATE that fails as Parse in a failed transaction takes the unnamed statement away', async () => {
  const steps = [
    // Two fit on the server, so that the first is not there any more.
    ...['one', 'two', 'three'].map((name) => ({ send: [parse(name, `SELECT '${name}'`), sync], until: 'Z' })),
    { send: [query('BEGIN')], until: 'Z' },
    { send: [parse('', 'SELECT 7'), sync], until: 'Z' },
    { send: [bind('no such portal', 'two'), execute('another'), sync], until: 'Z' },
    { send: [parse('', 'DEALLOCATE one'), bind('', ''), execute(''), sync], until: 'Z' },
    { send: [...bindAndExecute], until: 'Z' },
    { send: [query('ROLLBACK')], until: 'Z' },
  ]
  const [direct, through] = [await loginDirectly(world), await loginTo(world, 'small')]

  const same = await transcript(direct, steps)

  expect(await transcript(through, steps)).toEqual(same)
  expect(same.filter((line) => line.startsWith('E')).map((line) => line.split(' ')[2])).toEqual([
    '34000',
    '25P02',
    '26000',
  ])
  for (const client of [direct, through]) client.destroy()
})

/** A client that holds one of two servers in a transaction until it is told to let go. */
async function holdServer(): Promise<{ letGo: () => Promise<void> }> {
  const holder = await loginTo(world, 'transaction2')
  await answers(holder, parse('hold', 'BEGIN'), bind('', 'hold'), execute(''), sync)
  return {
    letGo: async () => {
      await answers(holder, parse('let go', 'COMMIT'), bind('', 'let go'), execute(''), sync)
      holder.destroy()
    },
  }
}

test('53: a Bind never finds an earlier statement of its own client on another server', async () => {
  await world.postgres.sql('TRUNCATE numbers; INSERT INTO numbers VALUES (1)', [], 'app')
  const client = await loginTo(world, 'transaction2')
  const first = parse('', 'DELETE FROM numbers WHERE n = $1')
  await answers(client, first, sync, bind('', '', ['7']), execute(''), sync)
  const holder = await holdServer()
  await answers(client, parse('', 'SELECT $1::int'), sync)
  await holder.letGo()

  const found = rows(await answers(client, bind('', '', ['1']), execute(''), sync))
  const kept = await world.postgres.sql('SELECT count(*)::int AS n FROM numbers', [], 'app')
  client.destroy()

  expect(found).toEqual(['1'])
  expect(kept.rows).toEqual([{ n: 1 }])
})

test('53: a statement given in a group that an error skips is given again in the next', async () => {
  const [client, other] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  await answers(client, parse('', "SELECT 'mine'"), sync)
  await answers(other, parse('', "SELECT 'of the other'"), sync)

  const found = await answers(client, bind('', 'missing'), bind('', ''), sync, bind('', ''), execute(''), sync)
  for (const one of [client, other]) one.destroy()

  expect(rows(found)).toEqual(['mine'])
})

test('53: a Parse that an error skips leaves the statement of before, as in PostgreSQL', async () => {
  const one = [parse('', "SELECT 'one'"), sync]
  const skipped = [bind('', 'missing'), parse('', "SELECT 'two'"), closeStatement(''), query('SELECT 3'), sync]

  const same = await compare(world, [
    { send: one, until: 'Z' },
    { send: [...skipped, bind('', ''), execute(''), sync], until: 'Z', count: 2 },
    { send: [...skipped, parse('', "SELECT 'four'"), bind('', ''), execute(''), sync], until: 'Z', count: 2 },
    { send: [bind('', 'missing'), sync, ...skipped, bind('', ''), execute(''), sync], until: 'Z', count: 3 },
    { send: [bind('', ''), bind('', 'missing'), parse('', 'SELEC'), sync, bind('', ''), sync], until: 'Z', count: 2 },
    { send: [parse('', 'SELEC'), parse('', "SELECT 'six'"), sync, bind('', ''), sync], until: 'Z', count: 2 },
  ])

  expect(rows(same)).toEqual(['one', 'four', 'four'])
})

const changingStatements = [
  ['a named statement', 'described'],
  ['the statement without a name', ''],
] as const

test.for(changingStatements)(
  '%s whose columns have changed is refused on any server, as in PostgreSQL',
  async ([, name]) => {
    await world.postgres.sql('DROP TABLE IF EXISTS changing; CREATE TABLE changing AS SELECT 1 AS v', [], 'app')
    await world.postgres.sql('GRANT SELECT ON changing TO app', [], 'app')
    const client = await loginTo(world, 'transaction2')
    const use = [bind('', name), execute(''), sync]
    await answers(client, parse(name, 'SELECT v FROM changing'), describeStatement(name), sync)
    const before = await answers(client, ...use)
    await world.postgres.sql("ALTER TABLE changing ALTER v TYPE text USING 'x' || v", [], 'app')
    const holder = await holdServer()

    const refused = await answers(client, ...use)
    const inside = await answers(client, parse('b', 'BEGIN'), bind('', 'b'), execute(''), sync, ...use)
    await answers(client, parse('r', 'ROLLBACK'), bind('', 'r'), execute(''), sync)
    await answers(client, closeStatement(name), parse(name, 'SELECT v FROM changing'), describeStatement(name), sync)
    const anew = await answers(client, ...use)
    await holder.letGo()
    client.destroy()

    expect(rows(before)).toEqual(['1'])
    expect(refused).toEqual(['E ERROR 0A000 cached plan must not change result type', 'Z I'])
    expect(inside.slice(-2)).toEqual(['E ERROR 0A000 cached plan must not change result type', 'Z E'])
    expect(rows(anew)).toEqual(['x1'])
  },
)

test('a client that was not told of columns gets what they are now', async () => {
  await world.postgres.sql('DROP TABLE IF EXISTS changing; CREATE TABLE changing AS SELECT 1 AS v', [], 'app')
  await world.postgres.sql('GRANT SELECT ON changing TO app', [], 'app')
  const client = await loginTo(world, 'transaction2')
  await answers(client, parse('s', 'SELECT v FROM changing'), sync)
  await world.postgres.sql("ALTER TABLE changing ALTER v TYPE text USING 'x' || v", [], 'app')
  const holder = await holdServer()

  const found = await answers(client, bind('', 's'), execute(''), sync)
  await holder.letGo()
  client.destroy()

  expect(rows(found)).toEqual(['x1'])
})

/** Applies a version in which pool `changing` has `keys`. */
async function change(keys: Readonly<Record<string, string | number>>): Promise<void> {
  const { engine, document } = world
  const { changing, ...others } = document['pools'] as Record<string, object>
  await engine.apply({ ...document, pools: { ...others, changing: { ...changing, ...keys } } })
}

test('a statement without a name is the last one parsed, whatever the mode was then', async () => {
  const [client, other] = [await loginTo(world, 'changing'), await loginTo(world, 'changing')]
  await answers(client, parse('', "SELECT 'first'"), sync)
  await answers(other, parse('', "SELECT 'of the other'"), sync)

  await change({ pool_mode: 'session' })
  client.send(parse('', "SELECT 'second'"), flush)
  await client.readUntil('1')
  await change({ pool_mode: 'transaction' })
  const executed = await answers(client, ...bindAndExecute)
  for (const one of [client, other]) one.destroy()

  expect(rows(executed)).toEqual(['second'])
})

test('a statement without a name is not another client’s that was parsed while none were kept', async () => {
  const [client, other] = [await loginTo(world, 'changing'), await loginTo(world, 'changing')]
  await answers(client, parse('', "SELECT 'mine'"), sync)

  await change({ max_prepared_statements: 0 })
  await answers(other, parse('', "SELECT 'of the other'"), sync)
  await change({ max_prepared_statements: 200 })
  const executed = await answers(client, ...bindAndExecute)
  for (const one of [client, other]) one.destroy()

  expect(rows(executed)).toEqual(['mine'])
})

test('the unnamed statement is not another client’s when the pool mode changes to session', async () => {
  const [client, other] = [await loginTo(world, 'changing'), await loginTo(world, 'changing')]
  await answers(client, parse('', "SELECT 'mine'"), sync)
  await answers(other, parse('', "SELECT 'of the other'"), sync)

  await change({ pool_mode: 'session' })
  const executed = await answers(client, ...bindAndExecute)
  for (const one of [client, other]) one.destroy()
  await change({})

  expect(rows(executed)).toEqual(['mine'])
})

test('53: a long statement follows a Parse that an error skips', async () => {
  const long = parse('', `SELECT '${'x'.repeat(20_000)}'`)

  const same = await compare(world, [
    { send: [bind('', 'missing'), parse('', 'SELECT 1'), sync, long, flush], until: '1' },
    { send: bindAndExecute, until: 'Z' },
  ])

  expect(tags(same)).toBe('EZ12DCZ')
})

test('53: a long statement follows one of its client that an error skips on a server of another', async () => {
  const [client, other] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  await answers(client, parse('', 'SELECT 1'), sync)
  await answers(other, parse('', "SELECT 'of the other'"), sync)

  client.send(bind('', 'missing'), bind('', ''), sync, parse('', `SELECT '${'x'.repeat(20_000)}'`), flush)
  await client.readUntil('1')
  const found = rows(await answers(client, ...bindAndExecute))
  for (const one of [client, other]) one.destroy()

  expect(found).toEqual(['x'.repeat(20_000)])
})

test('a description is requested once, whatever is answered before it', async () => {
  const [client, other] = [await loginTo(world, 'scripted'), await loginTo(world, 'scripted')]
  const server = await scripted.next()
  const exchange = async (from: WireClient, sent: readonly Uint8Array[], answer: readonly Uint8Array[]) => {
    from.send(...sent)
    await server.readUntil('S')
    server.send(...answer, ready())
    await from.readUntil('Z')
  }
  await exchange(client, [parse('', 'SELECT 1'), describeStatement(''), sync], [parseComplete, ...described])
  await exchange(client, bindAndExecute, [message('2'), commandComplete('SELECT 1')])
  await exchange(other, [parse('', 'SELECT 2'), sync], [parseComplete])

  client.send(sync, ...bindAndExecute)
  await server.readUntil('H')
  server.send(ready())
  await client.readUntil('Z')
  server.send(parseComplete, ...described)
  const sent: string[] = []
  while (sent.at(-1) !== 'S') sent.push((await server.read()).tag)
  for (const one of [client, other]) one.destroy()

  expect(sent.join('')).toBe('BES')
})
