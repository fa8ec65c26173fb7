/**
 * Any sessions of SET and its kin: three clients over two servers get, statement by statement, what three connections of
 * their own get. FLOTILLA_PROGRAMS=5000 runs more programs.
 */
import * as fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { bind, execute, parse, query, sync } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import { programs, programsSeed } from '../../support/random-programs.ts'
import { ConnectionEnded, WireClient } from '../../support/wire.ts'
import type { LoginOptions } from '../../support/wire.ts'
import { startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    sql: [
      'CREATE ROLE alice',
      'CREATE ROLE bob',
      'GRANT alice, bob TO app',
      'CREATE SCHEMA s',
      'CREATE SCHEMA "größe"',
    ],
    pools: () => ({ two: { pool_mode: 'transaction', pool_size: 2, query_wait_timeout: '5s' } }),
  })
})

const names = [
  'work_mem',
  'statement_timeout',
  'search_path',
  'DateStyle',
  'TimeZone',
  'IntervalStyle',
  'client_encoding',
  'application_name',
  'standard_conforming_strings',
  'random_page_cost',
  'row_security',
  'jit_above_cost',
  'default_transaction_isolation',
  'default_transaction_read_only',
  'default_transaction_deferrable',
  'extra_float_digits',
  'role',
  'session_authorization',
]

/** The one exception: a custom parameter that another client has used is empty instead of NULL. */
const custom = `coalesce(pg_catalog.current_setting('app.tenant', true), '')`
const lookAtAll = `SELECT ${names.map((name) => `pg_catalog.current_setting('${name}')`).join(', ')}, ${custom}, current_user`

const values: Readonly<Record<string, readonly string[]>> = {
  work_mem: ["'7MB'", '5000', 'DEFAULT'],
  statement_timeout: ["'3s'", "'1min'", '0'],
  search_path: ['s', 'pg_catalog, s', '"größe"', "''", 'DEFAULT'],
  DateStyle: ["'German'", "'SQL'", "'dmy'", "'ISO'", 'DEFAULT'],
  TimeZone: ["'Asia/Tokyo'", "'Europe/Berlin'", '3', 'DEFAULT'],
  IntervalStyle: ['iso_8601', 'DEFAULT'],
  client_encoding: ['LATIN1', 'UTF8'],
  application_name: ["'one'", "'it''s'"],
  standard_conforming_strings: ['off', 'on'],
  random_page_cost: ['1.5', '2.3456789', '7'],
  row_security: ['off', 'on'],
  jit_above_cost: ['0', '-1'],
  default_transaction_isolation: ["'serializable'", "'repeatable read'", 'DEFAULT'],
  default_transaction_read_only: ['on', 'off'],
  default_transaction_deferrable: ['on', 'DEFAULT'],
  extra_float_digits: ['3', '0', '-5', '99'],
  role: ['alice', 'bob', 'none', 'missing'],
  'app.tenant': ["'a'", "'größe'", "E'back\\\\slash'", "''"],
}

const assignment = fc
  .constantFrom(...Object.keys(values))
  .chain((name) => fc.constantFrom(...(values[name] ?? [])).map((value) => ({ name, value })))

const set = fc
  .tuple(assignment, fc.constantFrom('SET', 'SET', 'SET SESSION', 'SET LOCAL'))
  .map(([{ name, value }, verb]) => `${verb} ${name} = ${value}`)
const reset = fc
  .constantFrom(...Object.keys(values), 'SESSION AUTHORIZATION', 'ALL', 'ALL')
  .map((name) => `RESET ${name}`)
const setConfig = fc
  .tuple(assignment, fc.constantFrom('true', 'false', 'false'))
  .filter(([{ value }]) => value !== 'DEFAULT')
  .map(([{ name, value }, local]) => {
    const text = /^E?'/.test(value) ? value : `'${value.replaceAll("'", "''")}'`
    return `SELECT set_config('${name}', ${text}, ${local})`
  })
const others = fc.constantFrom(
  'BEGIN',
  'BEGIN',
  'COMMIT',
  'COMMIT',
  'ROLLBACK',
  'COMMIT AND CHAIN',
  'SAVEPOINT a',
  'ROLLBACK TO a',
  'RELEASE a',
  'SELECT 1/0',
  'SELECT 1',
  'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
  'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE, ISOLATION LEVEL READ COMMITTED',
  'SET TRANSACTION READ ONLY',
  "SET TIME ZONE 'UTC'",
  'SET TIME ZONE DEFAULT',
  "SET SCHEMA 's'",
  "SET NAMES 'LATIN1'",
  'DISCARD ALL',
  "SELECT 'SET work_mem = 1; -- not'",
  "SELECT 'back\\\\slash'",
)
const statement = fc.oneof(
  { weight: 4, arbitrary: set },
  { weight: 1, arbitrary: reset },
  { weight: 2, arbitrary: setConfig },
  { weight: 4, arbitrary: others },
)

type Action =
  | { readonly kind: 'query'; readonly texts: readonly string[] }
  | { readonly kind: 'pipeline'; readonly texts: readonly string[] }
  | { readonly kind: 'look' }
  | { readonly kind: 'reconnect'; readonly login: number }

const logins: readonly Partial<LoginOptions>[] = [
  {},
  { parameters: { application_name: 'first', DateStyle: 'German' } },
  { parameters: { TimeZone: 'Asia/Tokyo', options: '-c work_mem=3MB -c app.tenant=first' } },
  { parameters: { options: '-c role=alice -c statement_timeout=5s', client_encoding: 'LATIN1' } },
]

const action = fc.oneof<fc.Arbitrary<Action>[]>(
  statement.map((text) => ({ kind: 'query', texts: [text] })),
  statement.map((text) => ({ kind: 'query', texts: [text] })),
  // A RESET and what follows it in one text is the documented difference.
  fc
    .array(fc.oneof(set, setConfig, others), { minLength: 2, maxLength: 3 })
    .filter((texts) => !texts.some((text) => /DEFAULT|DISCARD/.test(text)))
    .map((texts) => ({ kind: 'query', texts })),
  fc
    .array(fc.oneof(set, setConfig, others), { minLength: 1, maxLength: 3 })
    .filter((texts) => !texts.some((text) => /DEFAULT|DISCARD/.test(text)))
    .map((texts) => ({ kind: 'pipeline', texts })),
  fc.constant({ kind: 'look' } as const),
  fc.constant({ kind: 'look' } as const),
  fc.nat(logins.length - 1).map((login) => ({ kind: 'reconnect', login })),
)
const program = fc.record({
  logins: fc.array(fc.nat(logins.length - 1), { minLength: 3, maxLength: 3 }),
  steps: fc.array(fc.tuple(fc.nat(2), action), { maxLength: 30, size: 'max' }),
})

/** One client through the pool, and one with a connection of its own. */
class Pair {
  #through: WireClient | null = null
  #direct: WireClient | null = null
  status = 'I'

  async login(login: number): Promise<void> {
    const options = { user: 'app', ...logins[login] }
    this.#through = await WireClient.login(world.engine, { database: 'two', ...options })
    this.#direct = await WireClient.login(world.postgres, { database: 'app', ...options })
    this.status = 'I'
  }

  async leave(): Promise<void> {
    for (const client of [this.#through, this.#direct]) {
      client?.close()
      await client?.readToEnd()
    }
  }

  /** What each of them is answered, and what it was told of its parameters. */
  async send(bytes: Uint8Array): Promise<{ direct: unknown; through: unknown }> {
    const run = async (client: WireClient): Promise<unknown> => {
      client.send(bytes)
      const lines = await answers(client)
      this.status = lines.at(-1)?.slice(2) ?? ''
      const told = ['DateStyle', 'TimeZone', 'client_encoding', 'application_name', 'standard_conforming_strings']
      return {
        lines: lines.filter((line) => !line.startsWith('S ')),
        told: told.map((name) => `${name}=${client.parameters.get(name)}`),
      }
    }
    return { direct: await run(this.#direct as WireClient), through: await run(this.#through as WireClient) }
  }
}

/** Up to ReadyForQuery, or to the end of the connection. */
async function answers(client: WireClient): Promise<string[]> {
  const lines: string[] = []
  try {
    while (lines.at(-1)?.startsWith('Z') !== true) lines.push(describe(await client.read()))
  } catch (error) {
    if (!(error instanceof ConnectionEnded)) throw error
    lines.push('the end')
  }
  return lines
}

function bytesOf(step: Exclude<Action, { kind: 'reconnect' }>): Uint8Array {
  if (step.kind === 'look') return query(lookAtAll)
  if (step.kind === 'query') return query(step.texts.join('; '))
  return Buffer.concat([...step.texts.flatMap((text) => [parse('', text), bind('', ''), execute('')]), sync])
}

async function run({ logins: first, steps }: { logins: number[]; steps: [number, Action][] }): Promise<void> {
  const pairs = [new Pair(), new Pair(), new Pair()]
  const done: string[] = []
  try {
    for (const [index, pair] of pairs.entries()) await pair.login(first[index] ?? 0)
    for (const [index, step] of [...steps, ...pairs.map((_, index): [number, Action] => [index, { kind: 'look' }])]) {
      const pair = pairs[index] as Pair
      if (step.kind === 'reconnect') {
        await pair.leave()
        await pair.login(step.login)
        done.push(`${index}: reconnect ${step.login}`)
        continue
      }
      // There are two servers.
      const busy = pairs.filter((other) => other !== pair && other.status !== 'I')
      if (busy.length === 2) await busy[0]?.send(query('ROLLBACK'))
      done.push(`${index}: ${step.kind} ${'texts' in step ? step.texts.join('; ') : ''}`)
      const { direct, through } = await pair.send(bytesOf(step))
      expect({ done, answer: through }).toEqual({ done, answer: direct })
    }
  } finally {
    for (const pair of pairs) await pair.leave()
  }
}

test(
  'three clients over two servers get what three connections of their own get',
  { timeout: 60_000 + programs * 1000 },
  async () => {
    await fc.assert(
      fc.asyncProperty(program, (one) => run(one)),
      programsSeed === undefined ? { numRuns: programs } : { numRuns: programs, seed: Number(programsSeed) },
    )
  },
)
