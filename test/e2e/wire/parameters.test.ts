import { beforeAll, expect, test } from 'vitest'
import { query } from '../../support/frontend-messages.ts'
import { transcript } from '../../support/oracle.ts'
import type { WireClient } from '../../support/wire.ts'
import { compare, loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    sql: ['CREATE SCHEMA a', 'CREATE SCHEMA b', 'CREATE SCHEMA "größe" AUTHORIZATION app', 'GRANT pg_monitor TO app'],
  })
})

/** The value of each setting, in the order of the names. */
async function settings(client: WireClient, ...names: string[]): Promise<string[]> {
  const columns = names.map((name) => `current_setting('${name}')`).join(` || '|' || `)
  const answers = await transcript(client, [{ send: [query(`SELECT ${columns}`)], until: 'Z' }])
  const row = answers.find((line) => line.startsWith('D')) ?? ''
  return Buffer.from(row.slice('D 000100000000'.length), 'hex').toString().split('|')
}

async function ask(client: WireClient, sql: string): Promise<string[]> {
  return await transcript(client, [{ send: [query(sql)], until: 'Z' }])
}

test('startup parameters follow each of many interleaved clients to the one server', async () => {
  const names = ['application_name', 'TimeZone', 'DateStyle', 'search_path', 'statement_timeout', 'work_mem']
  const asked = [
    { application_name: 'first', TimeZone: 'Asia/Tokyo', options: '-c search_path=a -c statement_timeout=5s' },
    { application_name: "sec'ond\\", DateStyle: 'German, DMY', options: '-c work_mem=1MB' },
    {},
    { application_name: 'first', TimeZone: 'Europe/Berlin', search_path: 'b' },
    { options: '-c search_path=a,\\ b -c statement_timeout=7000' },
  ]
  const clients = []
  for (const parameters of asked) clients.push(await loginTo(world, 'transaction1', { parameters }))
  const wanted = await Promise.all(clients.map((client) => settings(client, ...names)))

  for (let round = 0; round < 20; round++) {
    for (const [i, client] of clients.entries()) {
      if ((round + i) % 3 === 0) continue
      expect(await settings(client, ...names)).toEqual(wanted[i])
    }
  }

  expect(wanted[0]).toEqual(['first', 'Asia/Tokyo', 'ISO, MDY', 'a', '5s', '4MB'])
  expect(wanted[1]?.slice(0, 3)).toEqual(["sec'ond\\", 'Etc/UTC', 'German, DMY'])
  expect(wanted[2]).toEqual(['', 'Etc/UTC', 'ISO, MDY', '"$user", public', '0', '4MB'])
  expect(wanted[4]).toEqual(['', 'Etc/UTC', 'ISO, MDY', 'a, b', '7s', '4MB'])
  for (const client of clients) client.destroy()
})

test('67: SET of a reported parameter follows the client to any server', async () => {
  const [tokyo, berlin, plain] = [
    await loginTo(world, 'transaction5'),
    await loginTo(world, 'transaction5'),
    await loginTo(world, 'transaction5'),
  ]
  await ask(tokyo, "SET TimeZone = 'Asia/Tokyo'")
  await ask(berlin, "SET TimeZone = 'Europe/Berlin'")

  for (let round = 0; round < 25; round++) {
    const seen = await Promise.all([tokyo, berlin, plain].map((client) => settings(client, 'TimeZone')))
    expect(seen.flat()).toEqual(['Asia/Tokyo', 'Europe/Berlin', 'Etc/UTC'])
  }
  for (const client of [tokyo, berlin, plain]) client.destroy()
})

test('68: SET in a transaction is kept by COMMIT and taken back by ROLLBACK', async () => {
  const answers = await compare(world, [
    { send: [query("BEGIN; SET TimeZone = 'Asia/Tokyo'")], until: 'Z' },
    { send: [query('ROLLBACK')], until: 'Z' },
    { send: [query('SHOW TimeZone')], until: 'Z' },
    { send: [query("BEGIN; SET TimeZone = 'Asia/Tokyo'")], until: 'Z' },
    { send: [query('COMMIT')], until: 'Z' },
    { send: [query('SHOW TimeZone')], until: 'Z' },
  ])

  expect(answers.filter((line) => line.startsWith('S'))).toEqual([
    'S TimeZone Asia/Tokyo',
    'S TimeZone Etc/UTC',
    'S TimeZone Asia/Tokyo',
  ])
})

test('68: a client keeps what it committed and loses what it rolled back, though another had the server', async () => {
  const [client, other] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  await ask(client, "BEGIN; SET TimeZone = 'Asia/Tokyo'; COMMIT")
  await ask(client, "BEGIN; SET TimeZone = 'Europe/Berlin'; SET application_name = 'lost'")
  await ask(client, 'ROLLBACK')

  const seenByOther = await settings(other, 'TimeZone', 'application_name')
  const seen = await settings(client, 'TimeZone', 'application_name')

  expect(seenByOther).toEqual(['Etc/UTC', ''])
  expect(seen).toEqual(['Asia/Tokyo', ''])
  for (const one of [client, other]) one.destroy()
})

test('69: SET LOCAL ends with its transaction', async () => {
  const [client, other] = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  await ask(client, "BEGIN; SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL work_mem = '7MB'")
  const within = await settings(client, 'TimeZone', 'work_mem')
  await ask(client, 'COMMIT')

  expect(within).toEqual(['Asia/Tokyo', '7MB'])
  expect(await settings(other, 'TimeZone', 'work_mem')).toEqual(['Etc/UTC', '4MB'])
  expect(await settings(client, 'TimeZone', 'work_mem')).toEqual(['Etc/UTC', '4MB'])
  for (const one of [client, other]) one.destroy()
})

test('75: a client is told of a parameter only when its own changed', async () => {
  const tokyo = await loginTo(world, 'transaction1', { parameters: { TimeZone: 'Asia/Tokyo' } })
  const plain = await loginTo(world, 'transaction1')

  const answers: string[] = []
  for (let round = 0; round < 5; round++) {
    answers.push(...(await ask(tokyo, 'SELECT 1')), ...(await ask(plain, 'SELECT 1')))
  }

  expect(answers.filter((line) => line.startsWith('S'))).toEqual([])
  for (const one of [tokyo, plain]) one.destroy()
})

test('77: values that look like SQL are never executed', async () => {
  const name = `'; DROP SCHEMA a; --$$\\"`
  const client = await loginTo(world, 'transaction1', { parameters: { application_name: name } })
  const other = await loginTo(world, 'transaction1')
  await settings(other, 'application_name')

  expect(await settings(client, 'application_name')).toEqual([name])
  expect((await world.postgres.sql("SELECT FROM pg_namespace WHERE nspname = 'a'", [], 'app')).rowCount).toBe(1)
  for (const one of [client, other]) one.destroy()
})

test('a search path that is not ASCII follows its client, whatever the encoding of the client is', async () => {
  const client = await loginTo(world, 'transaction1', {
    parameters: { search_path: '"größe"', client_encoding: 'LATIN1' },
  })
  const other = await loginTo(world, 'transaction1')
  await settings(other, 'search_path')

  const answers = await ask(client, "SELECT current_schema() = convert_from('\\x6772c3b6c39f65', 'UTF8') AS a")
  const rows = answers.filter((line) => line.startsWith('D'))

  expect(rows).toEqual(['D 00010000000174'])
  for (const one of [client, other]) one.destroy()
})

test.for(['session1', 'transaction1'])('client_encoding set by a client of %s is not the next one’s', async (pool) => {
  const client = await loginTo(world, pool)
  await ask(client, "SET client_encoding = 'LATIN1'")
  const own = await settings(client, 'client_encoding')
  client.close()
  await client.readToEnd()

  const next = await loginTo(world, pool)

  expect(own).toEqual(['LATIN1'])
  expect(next.parameters.get('client_encoding')).toBe('UTF8')
  expect(await settings(next, 'client_encoding')).toEqual(['UTF8'])
  next.close()
  await next.readToEnd()
})

test('a session leaves nothing to the next client', async () => {
  const client = await loginTo(world, 'session1', { parameters: { options: '-c statement_timeout=5s' } })
  const answers = await ask(
    client,
    "SET work_mem = '7MB'; CREATE TEMP TABLE t (); LISTEN t; PREPARE p AS SELECT 1; SET ROLE pg_monitor",
  )
  client.close()
  await client.readToEnd()

  const next = await loginTo(world, 'session1')
  const seen = await settings(next, 'work_mem', 'statement_timeout', 'role')
  const left = await ask(
    next,
    `SELECT (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_listening_channels())
       + (to_regclass('pg_temp.t') IS NOT NULL)::int AS a`,
  )

  expect(answers.at(-2)).toBe('C SET')
  expect(seen).toEqual(['4MB', '0', 'none'])
  expect(left[1]).toBe('D 00010000000130')
  next.close()
  await next.readToEnd()
})

test.for([
  ['role=pg_monitor', 'role', 'pg_monitor', 'none'],
  ['session_authorization=app', 'session_authorization', 'app', 'app'],
  ['default_transaction_read_only=on', 'default_transaction_read_only', 'on', 'off'],
] as const)('what a client starts with, %s, is its own alone', async ([setting, name, own, others]) => {
  const client = await loginTo(world, 'transaction1', { parameters: { options: `-c ${setting}` } })
  const other = await loginTo(world, 'transaction1')

  const seen = []
  for (let round = 0; round < 3; round++) seen.push(await settings(client, name), await settings(other, name))

  expect(seen).toEqual([[own], [others], [own], [others], [own], [others]])
  for (const one of [client, other]) one.destroy()
})

test('a client of session mode is notified while it is idle', async () => {
  const client = await loginTo(world, 'session5')
  await ask(client, 'LISTEN news')

  await world.postgres.sql("NOTIFY news, 'extra'", [], 'app')
  const message = await client.read()

  expect(message.tag).toBe('A')
  expect(message.body.subarray(4).toString()).toBe('news\0extra\0')
  client.destroy()
})
