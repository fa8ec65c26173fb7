/** isolation = "strict": what code of the database leaves in a session reaches no other client. */
import { beforeAll, expect, test } from 'vitest'
import { bind, execute, parse, query, sync } from '../../support/frontend-messages.ts'
import { firstValue, leave, loginTo, startWorld, value } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    sql: [
      'GRANT pg_monitor TO app',
      'GRANT USAGE, CREATE ON SCHEMA public TO app',
      // Whatever calls it leaves settings, a lock, a cursor, a temporary table and a channel.
      `CREATE FUNCTION leave() RETURNS int LANGUAGE plpgsql AS $$
         BEGIN
           PERFORM set_config('work_mem', '7MB', false), set_config('app.left', 'secret', false);
           PERFORM set_config('role', 'pg_monitor', false), pg_advisory_lock(7);
           LISTEN left_behind;
           CREATE TEMPORARY TABLE IF NOT EXISTS left_behind (n int);
           RETURN 1;
         END $$`,
      'CREATE TABLE plain (n int)',
      'CREATE TABLE triggered (n int)',
      'CREATE FUNCTION trigger_leaves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := leave(); RETURN NEW; END $$',
      'CREATE TRIGGER leaves BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION trigger_leaves()',
      'CREATE VIEW seen AS SELECT leave() AS n',
      'CREATE TABLE guarded (n int)',
      'INSERT INTO guarded VALUES (1)',
      'ALTER TABLE guarded ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY',
      'CREATE POLICY leaves ON guarded USING (leave() = 1)',
      'CREATE TABLE defaulted (n int DEFAULT leave(), id serial)',
      'CREATE TYPE cast_from AS (n int)',
      'CREATE FUNCTION cast_leaves(cast_from) RETURNS int LANGUAGE sql AS $$ SELECT leave() $$',
      'CREATE CAST (cast_from AS int) WITH FUNCTION cast_leaves(cast_from)',
      'CREATE FUNCTION operator_leaves(int, int) RETURNS int LANGUAGE sql AS $$ SELECT leave() $$',
      'CREATE OPERATOR ## (FUNCTION = operator_leaves, LEFTARG = int, RIGHTARG = int)',
    ],
    pools: () => ({
      strict: { pool_mode: 'transaction', pool_size: 1, isolation: 'strict' },
      standard: { pool_mode: 'transaction', pool_size: 1 },
    }),
  })
  const owned = [
    ...['plain', 'triggered', 'guarded', 'defaulted'].map((table) => `ALTER TABLE ${table} OWNER TO app`),
    'ALTER VIEW seen OWNER TO app',
    'GRANT TEMPORARY ON DATABASE app TO pg_monitor',
  ]
  for (const sql of owned) await world.postgres.sql(sql, [], 'app')
})

const look = `SELECT concat_ws(' ', current_setting('work_mem'), current_setting('app.left', true), current_user,
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
  (SELECT count(*) FROM pg_listening_channels()), to_regclass('pg_temp.left_behind'))`
const clean = '4MB  app 0 0'

test.for([
  ['a trigger', 'INSERT INTO triggered VALUES (0)'],
  ['a view', 'SELECT * FROM seen'],
  ['a policy', 'SELECT * FROM guarded'],
  ['a default', 'INSERT INTO defaulted (id) VALUES (1)'],
  ['a cast', 'SELECT ROW(1)::cast_from::int'],
  ['an operator', 'SELECT 1 ## 2'],
] as const)('what %s has left in the session reaches no other client', async ([, sql]) => {
  const [client, next] = [await loginTo(world, 'strict'), await loginTo(world, 'strict')]
  await value(client, sql)

  expect(await value(next, look)).toBe(clean)
  await leave(client, next)
})

test('without it the next client would get what a trigger has left', async () => {
  const [client, next] = [await loginTo(world, 'standard'), await loginTo(world, 'standard')]
  await value(client, 'INSERT INTO triggered VALUES (0)')

  expect(await value(next, look)).toContain('7MB secret pg_monitor 1 1')
  await leave(client, next)
})

test('lastval and currval of another client are gone', async () => {
  const [client, next] = [await loginTo(world, 'strict'), await loginTo(world, 'strict')]
  client.send(parse('', "SELECT nextval('defaulted_id_seq')"), bind('', ''), execute(''), sync)
  await client.readUntil('Z')

  expect(await value(next, 'SELECT lastval()')).toContain('55000')
  expect(await value(next, "SELECT currval('defaulted_id_seq')")).toContain('55000')
  await leave(client, next)
})

test('a transaction of nothing but BEGIN, SET and SHOW costs no reset; one more statement costs one', async () => {
  const client = await loginTo(world, 'strict')
  const pid = Number(await value(client, 'SELECT pg_backend_pid()'))
  const last = async (): Promise<unknown> => {
    await world.engine.poolUntil('strict', (pool) => pool.serversIdle === 1)
    const { rows } = await world.postgres.sql('SELECT query FROM pg_stat_activity WHERE pid = $1', [pid])
    return (rows[0] as { query: string }).query
  }
  const seen = []
  for (const sql of ['BEGIN; SHOW work_mem; COMMIT', 'SELECT 1']) {
    await value(client, sql)
    seen.push(await last())
  }

  expect(seen).toEqual(['BEGIN; SHOW work_mem; COMMIT', 'SELECT pg_catalog.pg_advisory_unlock_all()'])
  await leave(client)
})

test('a client keeps its own settings and prepared statements', async () => {
  const [client, next] = [await loginTo(world, 'strict'), await loginTo(world, 'strict')]
  client.send(query("SET work_mem = '5MB'"), parse('p', "SELECT current_setting('work_mem')"), sync)
  await client.readUntil('Z', 2)
  await value(next, 'SELECT 1')
  client.send(bind('', 'p'), execute(''), sync)

  expect(firstValue(await client.readUntil('Z'))).toBe('5MB')
  await leave(client, next)
})

test('a server that has seen custom parameters is given to clients that use them only', async () => {
  const [tenant, other] = [await loginTo(world, 'strict'), await loginTo(world, 'strict')]
  await value(tenant, "BEGIN; SET LOCAL app.tenant = 'a'; SELECT 1; COMMIT")
  await value(other, "SET app.tenant = 'b'")
  const shared = [await value(other, 'SELECT pg_backend_pid()'), await value(tenant, 'SELECT pg_backend_pid()')]
  const stranger = await loginTo(world, 'strict')

  const seen = await value(stranger, "SELECT current_setting('app.tenant', true)")

  expect(shared[0]).toBe(shared[1])
  expect(seen).toBe('NULL')
  expect(await value(stranger, 'SELECT pg_backend_pid()')).not.toBe(shared[0])
  await leave(tenant, other, stranger)
})
