/** A statement prepared after a change of the schema is not one of before it: as directly, it has the new types. */
import { beforeAll, beforeEach, expect, test } from 'vitest'
import {
  bind,
  closeStatement,
  describeStatement,
  execute,
  parse,
  query,
  sync,
  cstring,
  int32,
  message,
} from '../../support/frontend-messages.ts'
import type { WireClient } from '../../support/wire.ts'
import { loginDirectly, loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World
let several: World

beforeAll(async () => {
  world = await startWorld()
  several = await startWorld({ workers: 2 })
})

/** What every test changes, and what its clients prepare: with the old types it fails, each with its SQLSTATE. */
const changes = {
  'a column’s type': {
    sql: 'ALTER TABLE changed ALTER v TYPE text USING v::text',
    text: 'SELECT v FROM changed',
    values: [],
    fails: '0A000',
  },
  'the table': {
    sql: 'DROP TABLE changed; CREATE TABLE changed (v bool)',
    text: 'INSERT INTO changed VALUES ($1)',
    values: ['1'],
    fails: '42804',
  },
  'the function': {
    sql: 'DROP FUNCTION doubled(int); CREATE FUNCTION doubled(x date) RETURNS date LANGUAGE sql AS $$ SELECT x $$',
    text: 'SELECT doubled($1)',
    values: ['2024-02-29'],
    fails: '42883',
  },
} as const
type Change = (typeof changes)[keyof typeof changes]

beforeEach(async () => {
  tests++
  for (const { postgres } of [world, several]) {
    for (const sql of [
      'DROP TABLE IF EXISTS changed',
      'DROP FUNCTION IF EXISTS doubled(int)',
      'DROP FUNCTION IF EXISTS doubled(date)',
      'CREATE TABLE changed (v int)',
      'CREATE FUNCTION doubled(x int) RETURNS int LANGUAGE sql AS $$ SELECT 2 * x $$',
    ]) {
      await postgres.sql(`SET ROLE app; ${sql}`, [], 'app')
    }
  }
})

let tests = 0

/** Unknown to servers that were used by the tests before. */
function textOf({ text }: Change): string {
  return `${text} -- ${tests}`
}

/** Tag and body of each message, with the types that a client decodes by. */
async function answers(client: WireClient, ...sent: readonly Uint8Array[]): Promise<string[]> {
  client.send(...sent, sync)
  return (await client.readUntil('Z')).map(({ tag, body }) => `${tag} ${body.toString('latin1')}`)
}

/** A client of its own prepares, describes and executes the statement. */
async function use(login: Promise<WireClient>, change: Change): Promise<string[]> {
  const client = await login
  const told = await answers(
    client,
    parse('s', textOf(change)),
    describeStatement('s'),
    bind('', 's', [...change.values]),
    execute(''),
  )
  client.destroy()
  return told
}

/** Int16 formats, Int16 values, Int32 length and bytes of each, Int16 formats of results (manual, "Bind"). */
function bindBinary(name: string, value: Buffer): Buffer {
  const one = Buffer.from('00010001', 'hex')
  return message('B', cstring(''), cstring(name), one, one.subarray(2), int32(value.length), value, Buffer.alloc(2))
}

async function run(client: WireClient, sql: string): Promise<void> {
  client.send(query(sql))
  await client.readUntil('Z')
}

test.each(Object.entries(changes))(
  'a Parse after a change of %s through the proxy is of after it',
  async (_, change) => {
    const holder = await loginTo(world, 'transaction1')
    await answers(holder, parse('held', textOf(change)), describeStatement('held'))

    await run(await loginTo(world, 'transaction5'), change.sql)
    const told = await use(loginTo(world, 'transaction1'), change)

    expect(told).toEqual(await use(loginDirectly(world), change))
    expect(told.some((line) => line.startsWith('E'))).toBe(false)
  },
)

test.each(Object.entries(changes))(
  'a change of %s that the proxy has not seen fails one statement, once',
  async (_, change) => {
    const holder = await loginTo(world, 'transaction1')
    await answers(holder, parse('held', textOf(change)))

    await run(await loginDirectly(world), change.sql)
    const first = await use(loginTo(world, 'transaction1'), change)
    const second = await use(loginTo(world, 'transaction1'), change)

    expect(first.find((line) => line.startsWith('E'))).toContain(`C${change.fails}\0`)
    expect(second).toEqual(await use(loginDirectly(world), change))
  },
)

test('what a transaction has changed counts for itself, and after a ROLLBACK for no client', async () => {
  const change = changes['a column’s type']
  const client = await loginTo(world, 'transaction1')
  await answers(client, parse('before', textOf(change)), describeStatement('before'))

  await run(client, `BEGIN; ${change.sql}`)
  const inside = await answers(client, parse('inside', textOf(change)), describeStatement('inside'))
  await run(client, 'ROLLBACK')
  const after = await use(loginTo(world, 'transaction1'), change)

  const direct = await loginDirectly(world)
  await run(direct, `BEGIN; ${change.sql}`)
  expect(inside).toEqual(await answers(direct, parse('inside', textOf(change)), describeStatement('inside')))
  await run(direct, 'ROLLBACK')
  expect(after).toEqual(await use(loginDirectly(world), change))
})

test('a statement prepared before the end of a transaction that changes the schema is of before it', async () => {
  const change = changes['the function']
  const [client, other] = [await loginTo(world, 'transaction5'), await loginTo(world, 'transaction5')]
  await run(client, `BEGIN; ${change.sql}`)
  await answers(other, parse('s', textOf(change)), describeStatement('s'))

  await run(client, 'COMMIT')
  const told = await use(loginTo(world, 'transaction5'), change)

  expect(told).toEqual(await use(loginDirectly(world), change))
})

test.each(['named', 'unnamed'])(
  'parameters of the %s statement keep the types that the client was told',
  async (which) => {
    const name = which === 'named' ? 's' : ''
    const [text, sql] = ['INSERT INTO changed VALUES ($1)', 'ALTER TABLE changed ALTER v TYPE float4']
    const stored = async (login: Promise<WireClient>): Promise<unknown> => {
      const client = await login
      await answers(client, parse(name, `${text} -- ${tests}`), describeStatement(name))
      // A server that has not prepared it is used after a change that the proxy has not seen.
      const holder = await loginTo(world, 'transaction5')
      await run(holder, 'BEGIN')
      await run(await loginDirectly(world), sql)
      const value = Buffer.alloc(4)
      value.writeInt32BE(5)
      await answers(client, bindBinary(name, value), execute(''))
      for (const one of [client, holder]) one.destroy()
      const { rows } = await world.postgres.sql('DELETE FROM changed RETURNING v', [], 'app')
      await world.postgres.sql('ALTER TABLE changed ALTER v TYPE int', [], 'app')
      return rows
    }

    const through = await stored(loginTo(world, 'transaction5'))

    expect(through).toEqual([{ v: 5 }])
    expect(through).toEqual(await stored(loginDirectly(world)))
  },
)

test('a client that holds a statement of before the change gets what PostgreSQL gives it', async () => {
  const change = changes['a column’s type']
  const told = async (login: Promise<WireClient>): Promise<string[][]> => {
    const client = await login
    await answers(client, parse('s', textOf(change)), describeStatement('s'))
    await run(client, change.sql)
    const failed = await answers(client, bind('', 's'), execute(''))
    const anew = await answers(client, closeStatement('s'), parse('s', textOf(change)), describeStatement('s'))
    await run(client, 'ALTER TABLE changed ALTER v TYPE int USING v::int')
    client.destroy()
    return [failed.map((line) => line.slice(0, 1)), anew]
  }

  expect(await told(loginTo(world, 'transaction1'))).toEqual(await told(loginDirectly(world)))
})

test.each([
  ['DO', `DO $$ BEGIN EXECUTE 'ALTER TABLE changed ALTER v TYPE text'; END $$`],
  ['a change in session mode', 'ALTER TABLE changed ALTER v TYPE text'],
])('%s counts as a change of the schema', async (what, sql) => {
  const change = changes['a column’s type']
  const holder = await loginTo(world, 'transaction1')
  await answers(holder, parse('held', textOf(change)))

  await run(await loginTo(world, what === 'DO' ? 'transaction1' : 'session1'), sql)

  expect(await use(loginTo(world, 'transaction1'), change)).toEqual(await use(loginDirectly(world), change))
})

test('a change seen by one worker counts for the others', async () => {
  const change = changes['a column’s type']
  // Enough clients that both workers have some.
  const holders = await Promise.all(Array.from({ length: 6 }, async () => await loginTo(several, 'transaction5')))
  for (const holder of holders) await answers(holder, parse('held', textOf(change)), describeStatement('held'))

  await run(await loginTo(several, 'transaction5'), change.sql)

  const wanted = await use(loginDirectly(several), change)
  for (const holder of holders) {
    expect(
      await answers(holder, parse('new', textOf(change)), describeStatement('new'), bind('', 'new'), execute('')),
    ).toEqual(wanted)
  }
})

test('without a change equal statements stay one on the server', async () => {
  const client = await loginTo(world, 'transaction1')
  for (let left = 5; left > 0; left--) await use(loginTo(world, 'transaction1'), changes['the table'])
  await run(client, 'BEGIN; SELECT 1; COMMIT')
  await answers(client, parse('mine', 'SELECT 41 AS shared'))
  const before = await loginTo(world, 'transaction1')
  await answers(before, parse('own', 'SELECT 41 AS shared'))

  const sql = "SELECT count(*)::text FROM pg_prepared_statements WHERE statement = 'SELECT 41 AS shared'"
  const counted = await answers(client, parse('', sql), bind('', ''), execute(''))

  expect(counted[2]).toContain('1')
})
