/** What a client sets is its own, on every server it is joined with, and on no server of another client. */
import { beforeAll, expect, test } from 'vitest'
import { bind, execute, parse, query, sync } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import type { LoginOptions, WireClient } from '../../support/wire.ts'
import { leave, loginDirectly, loginTo, pins, startWorld, value } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    sql: [
      'CREATE ROLE alice',
      'CREATE ROLE short',
      'GRANT alice, short, pg_monitor TO app',
      'GRANT USAGE, CREATE ON SCHEMA public TO app',
      'GRANT USAGE ON SCHEMA public TO alice',
      'CREATE TABLE secret (owner text)',
      "INSERT INTO secret VALUES ('app'), ('other')",
      'ALTER TABLE secret ENABLE ROW LEVEL SECURITY',
      'CREATE POLICY own ON secret USING (owner = current_user)',
      'GRANT SELECT ON secret TO app',
      'CREATE TABLE written (n int)',
      'ALTER TABLE written OWNER TO app',
      'CREATE SCHEMA s AUTHORIZATION app',
      // Another meaning for an operator and a function, to the one who puts the schema first.
      'CREATE FUNCTION s.never(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$',
      'CREATE OPERATOR s.= (FUNCTION = s.never, LEFTARG = text, RIGHTARG = text)',
      "CREATE FUNCTION s.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'wrong' $$",
    ],
    pools: () => ({
      superuser: { pool_mode: 'transaction', pool_size: 1, users: { app: { server_user: 'postgres' } } },
      unpinned: { pool_mode: 'transaction', pool_size: 1, pin_on_session_state: 'off' },
    }),
    consoleUsers: { admin: { auth_type: 'trust' } },
  })
})

async function ask(client: WireClient, sql: string): Promise<string[]> {
  client.send(query(sql))
  return (await client.readUntil('Z')).map(describe)
}

const show = (name: string): string => `SELECT pg_catalog.current_setting('${name}', true)`

async function two(pool: string, options: Partial<LoginOptions> = {}): Promise<[WireClient, WireClient]> {
  return [await loginTo(world, pool, options), await loginTo(world, pool)]
}

test.for([
  ['SET', "SET work_mem = '7MB'", 'work_mem', '7MB', '4MB'],
  ['SET by set_config', "SELECT set_config('work_mem', '7MB', false)", 'work_mem', '7MB', '4MB'],
  ['a committed SET', "BEGIN; SET work_mem = '7MB'; COMMIT", 'work_mem', '7MB', '4MB'],
  ['a SET behind other statements', "SELECT 1; SET work_mem = '7MB'", 'work_mem', '7MB', '4MB'],
  ['a SET behind a comment with LOCAL', "/* */ SET /* LOCAL */ work_mem = '7MB'", 'work_mem', '7MB', '4MB'],
  ['a SET in a DO', "DO $$ BEGIN SET work_mem = '7MB'; END $$", 'work_mem', '7MB', '4MB'],
  ['search_path', 'SET search_path = s, pg_catalog', 'search_path', 's, pg_catalog', '"$user", public'],
  ['SET SCHEMA', "SET SCHEMA 's'", 'search_path', 's', '"$user", public'],
  ['statement_timeout', 'SET statement_timeout = 12345', 'statement_timeout', '12345ms', '0'],
  ['a short statement_timeout', "SET statement_timeout = '2ms'", 'statement_timeout', '2ms', '0'],
  ['row_security', 'SET row_security = off', 'row_security', 'off', 'on'],
  ['SET ROLE', 'SET ROLE alice', 'role', 'alice', 'none'],
  ['SET ROLE in a transaction', 'BEGIN; SET ROLE alice; COMMIT', 'role', 'alice', 'none'],
  [
    'SET SESSION CHARACTERISTICS',
    'SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE',
    'default_transaction_isolation',
    'serializable',
    'read committed',
  ],
  ['a compiler that compiles all', 'SET jit_above_cost = 0', 'jit_above_cost', '0', '100000'],
  ['a number with many digits', 'SET random_page_cost = 1.23456789', 'random_page_cost', '1.23457', '4'],
  ['a custom parameter', "SET app.tenant = 'größe \\ it''s'", 'app.tenant', "größe \\ it's", ''],
] as const)('%s is kept by its client and given to no other', async ([, sql, name, own, others]) => {
  const [client, next] = await two('transaction1')
  await ask(client, sql)
  const seen = [await value(next, show(name)), await value(client, show(name)), await value(next, show(name))]

  expect([seen[0] === 'NULL' ? '' : seen[0], seen[1], seen[2]]).toEqual([others, own, others])
  expect(await pins(world, 'transaction1')).toEqual([])
  await leave(client, next)
})

test('a table under row level security is refused to a session that would not see all of it', async () => {
  const [client, next] = await two('transaction1')
  await ask(client, 'SET row_security = off')
  await ask(next, 'SELECT 1')

  expect((await ask(client, 'SELECT * FROM secret'))[0]).toContain('42501')
  expect(await value(next, 'SELECT count(*) FROM secret')).toBe('1')
  await leave(client, next)
})

test('a role that was given up has no rights of the login role', async () => {
  const [client, next] = await two('transaction1')
  await ask(client, 'SET ROLE alice')
  await ask(next, 'SELECT 1')

  expect((await ask(client, 'INSERT INTO written VALUES (1)'))[0]).toContain('42501')
  expect(await ask(next, 'INSERT INTO written VALUES (1)')).toEqual(['C INSERT 0 1', 'Z I'])
  await leave(client, next)
})

test('a session that is read only writes nothing', async () => {
  const [client, next] = await two('transaction1')
  await ask(client, 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY')
  await ask(next, 'SELECT 1')

  expect((await ask(client, 'INSERT INTO written VALUES (1)'))[0]).toContain('25006')
  await leave(client, next)
})

test.for([
  ['SET LOCAL', "BEGIN; SET LOCAL work_mem = '7MB'; COMMIT"],
  ['a rollback', "BEGIN; SET work_mem = '7MB'; ROLLBACK"],
  ['a savepoint', "BEGIN; SAVEPOINT a; SET work_mem = '7MB'; ROLLBACK TO a; COMMIT"],
  ['an error behind it', "SET work_mem = '7MB'; SELECT 1/0"],
  ['a RESET', "SET work_mem = '7MB'; RESET work_mem"],
  ['a SET TO DEFAULT', "SET work_mem = '7MB'; SET work_mem TO DEFAULT"],
] as const)('what %s takes back is gone', async ([, sql]) => {
  const [client, next] = await two('transaction1')
  await ask(client, "SET maintenance_work_mem = '9MB'")
  await ask(client, sql)
  await ask(next, 'SELECT 1')

  expect([await value(client, show('work_mem')), await value(client, show('maintenance_work_mem'))]).toEqual([
    '4MB',
    '9MB',
  ])
  await leave(client, next)
})

test('COMMIT AND CHAIN keeps what was set before it, and ROLLBACK takes back what was set after', async () => {
  const [client, next] = await two('transaction1')
  await ask(client, "BEGIN; SET work_mem = '7MB'")
  await ask(client, 'COMMIT AND CHAIN')
  await ask(client, "SET maintenance_work_mem = '9MB'")
  await ask(client, 'ROLLBACK')
  await ask(next, 'SELECT 1')

  expect([await value(client, show('work_mem')), await value(client, show('maintenance_work_mem'))]).toEqual([
    '7MB',
    '64MB',
  ])
  await leave(client, next)
})

test('a prepared statement that sets is noticed each time it runs', async () => {
  const [client, next] = await two('transaction1')
  client.send(parse('p', "SELECT set_config('work_mem', $1, false)"), sync)
  await client.readUntil('Z')
  const seen = []
  for (const size of ['5MB', '6MB']) {
    client.send(bind('', 'p', [size]), execute(''), sync)
    await client.readUntil('Z')
    seen.push(await value(next, show('work_mem')), await value(client, show('work_mem')))
  }

  expect(seen).toEqual(['4MB', '5MB', '4MB', '6MB'])
  await leave(client, next)
})

test.for(['transaction1', 'session1'])('through %s a RESET brings back what the client began with', async (pool) => {
  const options = { parameters: { DateStyle: 'German', options: '-c work_mem=3MB -c role=alice' } }
  const steps = [
    ["SET work_mem = '7MB'; SET DateStyle = 'SQL'; SET ROLE pg_monitor", 'RESET work_mem'],
    ["SET work_mem = '7MB'; SET DateStyle = 'SQL'; SET ROLE pg_monitor", 'RESET DateStyle'],
    ["SET work_mem = '7MB'; SET DateStyle = 'SQL'; SET ROLE pg_monitor", 'SET DateStyle TO DEFAULT'],
    ["SET work_mem = '7MB'; SET DateStyle = 'SQL'; SET ROLE pg_monitor", 'RESET ALL'],
    ["SET work_mem = '7MB'; SET DateStyle = 'SQL'; SET ROLE pg_monitor", 'RESET ROLE'],
    ["SET work_mem = '7MB'; SET DateStyle = 'SQL'; SET ROLE pg_monitor", 'DISCARD ALL'],
    ["SET work_mem = '7MB'; SET DateStyle = 'SQL'; SET ROLE pg_monitor", 'BEGIN; RESET ALL; ROLLBACK'],
    ['BEGIN', 'SET LOCAL work_mem = DEFAULT', 'SET LOCAL DateStyle TO DEFAULT'],
  ] as const
  const look = "SELECT current_setting('work_mem') || ' ' || current_setting('DateStyle') || ' ' || current_user"
  const run = async (client: WireClient): Promise<string[]> => {
    const seen: string[] = []
    for (const texts of steps) {
      for (const text of texts) await ask(client, text)
      seen.push(`${await value(client, look)} ${client.parameters.get('DateStyle')}`)
      await ask(client, 'ROLLBACK')
      await ask(client, 'RESET ALL')
    }
    await leave(client)
    return seen
  }

  expect(await run(await loginTo(world, pool, options))).toEqual(await run(await loginDirectly(world, options)))
})

test('a superuser’s settings follow it; those that the login role may not make again pin', async () => {
  const [client, next] = await two('superuser')
  await ask(client, "SET log_min_duration_statement = '1h'; SET SESSION AUTHORIZATION alice")
  const seen = [await value(next, 'SELECT session_user'), await value(client, 'SELECT session_user')]

  expect(seen).toEqual(['postgres', 'alice'])
  await leave(client, next)
})

test('setseed keeps its server, which no client gets after it', async () => {
  const [client, next] = await two('transaction5')
  await ask(client, 'SELECT setseed(0.5)')
  const own = await value(client, 'SELECT pg_backend_pid()')
  const reasons = await pins(world, 'transaction5')
  const random = [await value(client, 'SELECT random()')]
  await ask(client, 'SELECT setseed(0.5)')
  random.push(await value(client, 'SELECT random()'))
  await leave(client)

  expect(reasons).toEqual(['seed'])
  expect(random[0]).toBe(random[1])
  for (let round = 0; round < 5; round++) expect(await value(next, 'SELECT pg_backend_pid()')).not.toBe(own)
  await leave(next)
})

test('a name that no text tells pins until DISCARD ALL', async () => {
  const [client, next] = await two('transaction5')
  client.send(parse('', 'SELECT set_config($1, $2, false)'))
  client.send(bind('', '', ['work_mem', '7MB']), execute(''), sync)
  await client.readUntil('Z')
  const seen = [await value(client, show('work_mem'))]
  const reasons = await pins(world, 'transaction5')
  await ask(client, 'DISCARD ALL')
  await value(client, 'SELECT 1')

  expect([...seen, await value(next, show('work_mem')), await value(client, show('work_mem'))]).toEqual([
    '7MB',
    '4MB',
    '4MB',
  ])
  expect([reasons, await pins(world, 'transaction5')]).toEqual([['settings'], []])
  await leave(client, next)
})

test('settings that cannot be made again are told, and nothing of the client’s is executed', async () => {
  await world.postgres.sql('CREATE ROLE passing; GRANT passing TO app', [], 'app')
  const [client, next] = await two('transaction1')
  await ask(client, 'SET ROLE passing')
  await ask(next, 'SELECT 1')
  await world.postgres.sql('DROP ROLE passing', [], 'app')

  client.send(query('CREATE TABLE never_made (n int)'))
  const { messages } = await client.readToEnd()

  expect(messages.map(describe)).toEqual(['E FATAL 22023 role "passing" does not exist'])
  expect(await value(next, "SELECT to_regclass('never_made') IS NULL")).toBe('t')
  await leave(next)
})

test.for([
  ['a SET', {}, 'SET idle_session_timeout = 300'],
  ['its startup packet', { options: '-c idle_session_timeout=300ms' }, 'SELECT 1'],
] as const)('idle_session_timeout of %s ends its client, and no server', async ([, parameters, sql]) => {
  const [client, next] = await two('transaction1', { parameters })
  const pid = await value(next, 'SELECT pg_backend_pid()')
  await ask(client, sql)
  const { messages } = await client.readToEnd()

  expect(messages.map(describe)).toEqual(['E FATAL 57P05 terminating connection due to idle-session timeout'])
  expect([await value(next, 'SELECT pg_backend_pid()'), await value(next, show('idle_session_timeout'))]).toEqual([
    pid,
    '0',
  ])
  await leave(next)
})

test('what is sent while a RESET is executed waits until the client has again what it began with', async () => {
  const client = await loginTo(world, 'transaction1', { parameters: { application_name: 'first' } })
  await ask(client, "SET application_name = 'second'")
  const slowly = ['SELECT pg_sleep(0.1)', 'RESET application_name'].flatMap((sql) => [
    parse('', sql),
    bind('', ''),
    execute(''),
  ])
  client.send(Buffer.concat([query('SELECT 1'), ...slowly, sync]))
  await client.readUntil('Z')
  client.send(query(show('application_name')))
  await client.readUntil('Z')
  const told = client.parameters.get('application_name')
  const shown = (await client.readUntil('Z')).find(({ tag }) => tag === 'D')?.body.toString('utf8', 6)

  expect([told, shown]).toEqual(['first', 'first'])
  await leave(client)
})

test.for([
  ['in a statement without a name', [''], 'session1'],
  ['in a named statement, behind the Parse of another', ['one', 'two'], 'session1'],
  ['in a named statement, behind the Parse of another', ['one', 'two'], 'transaction1'],
] as const)('a RESET %s brings back what the client began with: %s, %s', async ([, names, pool]) => {
  const client = await loginTo(world, pool, { parameters: { application_name: 'first' } })
  await ask(client, "SET application_name = 'second'")
  const texts = ['RESET application_name', 'SELECT 1']
  client.send(Buffer.concat([...names.map((name, index) => parse(name, texts[index] as string)), sync]))
  await client.readUntil('Z')
  client.send(Buffer.concat([bind('', names[0]), execute(''), sync]))
  await client.readUntil('Z')

  expect(client.parameters.get('application_name')).toBe('first')
  expect(await value(client, show('application_name'))).toBe('first')
  await leave(client)
})

test('with pin_on_session_state off settings are left on the server, as PgBouncer does', async () => {
  const [client, next] = await two('unpinned')
  await ask(client, "SET work_mem = '7MB'; SET TimeZone = 'Asia/Tokyo'")

  expect([await value(next, show('work_mem')), await value(next, show('TimeZone'))]).toEqual(['7MB', 'Etc/UTC'])
  await leave(client, next)
})
