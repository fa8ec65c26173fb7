/** Prepared statements of any length: kept once, up to a limit that one client cannot make others feel. */
import { beforeAll, expect, test } from 'vitest'
import { bind, closeStatement, execute, parse, query, sync } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import type { WireClient } from '../../support/wire.ts'
import { loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World
/** With as little memory as can be configured. */
let small: World

beforeAll(async () => {
  world = await startWorld()
  small = await startWorld({ general: { prepared_statement_memory_mib: 1 } })
})

/** A text of about this length whose result is `word`, and which is no other text's beginning. */
function textOf(word: string, bytes: number): string {
  return `SELECT '${word}' || left('${word.repeat(Math.ceil(bytes / word.length))}', 0)`
}

async function answers(client: WireClient, ...sent: readonly Uint8Array[]): Promise<string[]> {
  client.send(...sent)
  const count = Buffer.concat(sent).toString('latin1').split(sync.toString('latin1')).length - 1
  return (await client.readUntil('Z', count)).map(describe)
}

function tags(lines: readonly string[]): string {
  return lines.map((line) => line.slice(0, 1)).join('')
}

/** The text of each row. */
function rows(lines: readonly string[]): string[] {
  return lines.filter((line) => line.startsWith('D')).map((line) => Buffer.from(line.slice(14), 'hex').toString())
}

const use = (name: string): Uint8Array[] => [bind('', name), execute(''), sync]

/** A transaction holds the server that has served the client, so that its next request goes to another one. */
async function hold(pool: string): Promise<WireClient> {
  const holder = await loginTo(world, pool)
  holder.send(query('BEGIN'))
  await holder.readUntil('Z')
  return holder
}

test.each([
  ['70 kB', 70_000],
  ['1.2 MB', 1_200_000],
  ['20 MB', 20_000_000],
])('59: a named statement of %s is prepared, and follows its client', async (_, bytes) => {
  const client = await loginTo(world, 'transaction5')
  const prepared = await answers(client, parse('long', textOf('named', bytes)), sync)

  const executed = await answers(client, ...use('long'))
  const holder = await hold('transaction5')
  const elsewhere = await answers(client, ...use('long'))
  for (const one of [client, holder]) one.destroy()

  expect(tags(prepared)).toBe('1Z')
  expect([rows(executed), rows(elsewhere)]).toEqual([['named'], ['named']])
})

test.each([
  ['20 kB', 20_000],
  ['1.2 MB', 1_200_000],
])('53: an unnamed statement of %s follows its client', async (_, bytes) => {
  const client = await loginTo(world, 'transaction5')
  const prepared = await answers(client, parse('', textOf('unnamed', bytes)), sync)

  const holder = await hold('transaction5')
  const elsewhere = await answers(client, ...use(''))
  const again = await answers(client, ...use(''))
  for (const one of [client, holder]) one.destroy()

  expect(tags(prepared)).toBe('1Z')
  expect([rows(elsewhere), rows(again)]).toEqual([['unnamed'], ['unnamed']])
})

test('53: what passes in pieces after a long unnamed statement is no part of it', async () => {
  const client = await loginTo(world, 'transaction5')
  const text = `SELECT length($1) || left('${'x'.repeat(100_000)}', 0)`
  const value = 'v'.repeat(300_000)
  await answers(client, parse('', text), bind('', '', [value]), execute(''), sync)

  const holder = await hold('transaction5')
  const elsewhere = await answers(client, bind('', '', [value]), execute(''), sync)
  for (const one of [client, holder]) one.destroy()

  expect(rows(elsewhere)).toEqual(['300000'])
})

test('a long statement is the server’s once, for all clients that prepare it', async () => {
  const text = textOf('shared', 200_000)
  const clients = [await loginTo(world, 'transaction1'), await loginTo(world, 'transaction1')]
  for (const client of clients) await answers(client, parse('mine', text), ...use('mine'))

  const [client] = clients as [WireClient, WireClient]
  const sql = `SELECT count(*)::text FROM pg_prepared_statements WHERE length(statement) = ${text.length}`
  const counted = await answers(client, parse('', sql), ...use(''))

  expect(rows(counted)).toEqual(['1'])
})

test('a long statement that waits for the outcome of an equal one is not lost', async () => {
  const client = await loginTo(world, 'transaction1')
  const text = textOf('twice', 200_000)

  const both = await answers(client, parse('one', text), sync, parse('two', text), sync, ...use('two'))

  expect(tags(both)).toBe('1Z1Z2DCZ')
})

const noRoom = expect.stringMatching(/^E ERROR 53200 no memory is left for this prepared statement$/) as string

test.each([
  ['in one piece', 62_000, 5],
  ['in several', 250_000, 4],
])('a statement that finds no room %s fails in its transaction, and others go on', async (_, bytes, count) => {
  const client = await loginTo(small, 'transaction1')
  const fits = Array.from({ length: 40 }, (_, index) => `fits${index}`)
  const told: string[][] = []
  for (const name of fits) told.push(await answers(client, parse(name, textOf(name, bytes)), sync))
  const refused = told.filter((lines) => lines[0] !== '1')

  client.send(query('BEGIN'))
  await client.readUntil('Z')
  const inside = await answers(client, parse('more', textOf('more', bytes)), bind('', 'more'), execute(''), sync)
  client.send(query('ROLLBACK'))
  await client.readUntil('Z')
  const executed = await answers(client, ...use('fits1'))
  await answers(client, ...fits.map((name) => closeStatement(name)), sync)
  const later = await answers(client, parse('more', textOf('more', bytes)), ...use('more'))
  client.destroy()

  expect(told.length - refused.length).toBeGreaterThanOrEqual(count - 1)
  expect(refused.length).toBeGreaterThan(0)
  for (const lines of refused) expect(lines).toEqual([noRoom, 'Z I'])
  expect(inside).toEqual([noRoom, 'Z E'])
  expect(rows(executed)).toEqual(['fits1'])
  expect(rows(later)).toEqual(['more'])
})

test('a statement longer than a quarter of the memory fails, and what follows it does not', async () => {
  const client = await loginTo(small, 'transaction1')

  const both = await answers(
    client,
    parse('huge', textOf('huge', 2_000_000)),
    bind('', 'huge'),
    sync,
    parse('', "SELECT 'next'"),
    ...use(''),
  )
  client.destroy()

  expect(both.slice(0, 2)).toEqual([noRoom, 'Z I'])
  expect(rows(both)).toEqual(['next'])
})

test('an unnamed statement for which there is no room is executed all the same', async () => {
  const client = await loginTo(small, 'transaction1')

  const executed = await answers(client, parse('', textOf('unkept', 2_000_000)), ...use(''))
  client.destroy()

  expect(rows(executed)).toEqual(['unkept'])
})

test('a client whose unnamed statement was not kept never gets that of another', async () => {
  const [client, other] = [await loginTo(small, 'transaction1'), await loginTo(small, 'transaction1')]
  await answers(client, parse('', textOf('unkept', 2_000_000)), sync)
  await answers(other, parse('', "SELECT 'of the other'"), sync)

  const executed = await answers(client, ...use(''))
  for (const one of [client, other]) one.destroy()

  expect(executed[0]).toContain('26000')
})

test('what clients have prepared is given back when they leave, also in the middle of a message', async () => {
  for (let times = 0; times < 12; times++) {
    const client = await loginTo(small, 'transaction1')
    const text = textOf(`left${times}`, 200_000)
    expect(tags(await answers(client, parse('kept', text), parse('', text), sync))).toBe('11Z')
    client.send(parse('more', textOf('more', 200_000)).subarray(0, 150_000))
    client.destroy()
    await small.engine.until(({ pools }) =>
      pools.every(({ clientsActive, clientsIdle }) => clientsActive + clientsIdle === 0),
    )
  }
})
