/** A dump through a pool is, byte for byte, what PostgreSQL gives directly, or fails with the same error. */
import { readdirSync, readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { hasPostgres } from '../../support/postgres.ts'
import { hasProgram, runProgram } from '../../support/program.ts'
import type { ProgramResult } from '../../support/program.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { startWorld } from './world.ts'
import type { World } from './world.ts'

// Debian's pg_dump dumps no server that is newer than itself.
const dumps = hasProgram('pg_dump') && hasPostgres(14)
let world: World

beforeAll(async () => {
  if (!dumps) return
  const tables = Array.from({ length: 200 }, (_, index) => [
    `CREATE TABLE t${index} (id serial PRIMARY KEY, tenant text, n float8 DEFAULT random())`,
    `INSERT INTO t${index} SELECT i, (ARRAY['app', 'grüße'])[i % 2 + 1], i / 7.0 FROM generate_series(1, 30) i`,
    `ALTER TABLE t${index} OWNER TO app`,
  ])
  world = await startWorld({
    major: 14,
    sql: [
      tables.flat().join('; '),
      'CREATE ROLE limited LOGIN',
      'GRANT SELECT ON ALL TABLES IN SCHEMA public TO limited',
      'GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO limited',
      'ALTER TABLE t7 ENABLE ROW LEVEL SECURITY',
      "CREATE POLICY own ON t7 FOR SELECT USING (tenant = 'app')",
    ],
    pools: () => ({
      dumped: { pool_mode: 'transaction', pool_size: 5, users: { app: {}, limited: {} } },
      alone: { pool_mode: 'transaction', pool_size: 1, users: { app: {}, limited: {} } },
    }),
  })
})

interface Route {
  readonly port: number
  readonly database: string
}

async function dump(route: Route, user: string, ...options: readonly string[]): Promise<ProgramResult> {
  const address = ['-h', '127.0.0.1', '-p', `${route.port}`, '-U', user]
  const result = await runProgram('pg_dump', [...address, ...options, route.database])
  // It names the address, and in version 15.14 and later a random key, in which two dumps always differ.
  const told = (text: string): string =>
    text.replaceAll(/port \d+|database "\w+"/g, '…').replaceAll(/^\\(un)?restrict .*$/gm, '')
  return { code: result.code, stdout: told(result.stdout), stderr: told(result.stderr) }
}

const direct = (): Route => ({ port: world.postgres.port, database: 'app' })
const through = (pool: string): Route => ({ port: world.engine.port, database: pool })

test.for(['dumped', 'alone'])('as the owner of 200 tables, through %s', async (pool, { skip }) => {
  skip(!dumps)
  const wanted = await dump(direct(), 'app')

  expect(wanted.code).toBe(0)
  expect(await dump(through(pool), 'app')).toEqual(wanted)
})

test.for(['dumped', 'alone'])('under row level security it fails, through %s too', async (pool, { skip }) => {
  skip(!dumps)
  const wanted = await dump(direct(), 'limited')

  expect(wanted.code).toBe(1)
  expect(wanted.stderr).toContain('row-level security')
  expect(await dump(through(pool), 'limited')).toEqual(wanted)
})

test('with row level security enabled it has the rows that its role sees', async ({ skip }) => {
  skip(!dumps)
  const options = ['--enable-row-security', '-t', 't7']
  const wanted = await dump(direct(), 'limited', ...options)

  expect(wanted.stdout.match(/\tapp\t/g)).toHaveLength(15)
  expect(wanted.stdout).not.toContain('grüße')
  expect(await dump(through('dumped'), 'limited', ...options)).toEqual(wanted)
})

test.for([
  ['the directory format', ['-Fd']],
  ['the directory format by four connections', ['-Fd', '-j', '4']],
] as const)('in %s', async ([, options], { skip }) => {
  skip(!dumps)
  const [one, other] = [join(await tempFolder(), 'direct'), join(await tempFolder(), 'through')]
  const wanted = await dump(direct(), 'app', ...options, '-f', one)
  const got = await dump(through('dumped'), 'app', ...options, '-f', other)

  expect([wanted.code, wanted.stderr, got]).toEqual([0, '', wanted])
  expect(dataIn(other)).toEqual(dataIn(one))
  expect(await contents(other)).toBe(await contents(one))
})

test('in the custom format', async ({ skip }) => {
  skip(!dumps)
  const [one, other] = [join(await tempFolder(), 'direct'), join(await tempFolder(), 'through')]
  const wanted = await dump(direct(), 'app', '-Fc', '-f', one)
  const got = await dump(through('dumped'), 'app', '-Fc', '-f', other)

  expect([wanted.code, wanted.stderr, got]).toEqual([0, '', wanted])
  expect(await contents(other)).toBe(await contents(one))
})

/** The data of each table, without the table of contents, which has the time of the dump. */
function dataIn(folder: string): [string, string][] {
  const files = readdirSync(folder).filter((name) => name.endsWith('.dat.gz'))
  return files.toSorted().map((name) => [name, gunzipSync(readFileSync(join(folder, name))).toString()])
}

/** The dump as SQL. */
async function contents(path: string): Promise<string> {
  const { code, stdout, stderr } = await runProgram('pg_restore', ['-f', '-', path])
  expect([code, stderr]).toEqual([0, ''])
  return stdout.replaceAll(/^\\(un)?restrict .*$/gm, '')
}
