/** Real drivers and tools, which use the protocol in ways of their own. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client, Pool } from 'pg'
import { beforeAll, describe as group, expect, test } from 'vitest'
import { hasProgram, runProgram } from '../../support/program.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { poolNames, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({ sql: ['CREATE TABLE copied (n int, t text)', 'ALTER TABLE copied OWNER TO app'] })
})

function url(pool: string): string {
  return `postgresql://app@127.0.0.1:${world.engine.port}/${pool}`
}

group('node-postgres', () => {
  test.for(poolNames)('asks by the simple and the extended protocol through %s', async (pool) => {
    const client = new Client({ connectionString: url(pool), application_name: 'node-postgres' })
    await client.connect()

    const simple = await client.query<{ a: number }>('SELECT 1 AS a')
    const extended = await client.query<{ a: number; b: string }>('SELECT $1::int AS a, $2 AS b', [2, 'two'])
    const failure = await client.query('SELECT 1/$1::int', [0]).catch((error: { code: string }) => error.code)
    await client.query('BEGIN')
    const name = await client.query<{ a: string }>("SELECT current_setting('application_name') AS a")
    await client.query('COMMIT')
    await client.end()

    expect(simple.rows).toEqual([{ a: 1 }])
    expect(extended.rows).toEqual([{ a: 2, b: 'two' }])
    expect(failure).toBe('22012')
    expect(name.rows).toEqual([{ a: 'node-postgres' }])
  })

  test('many clients share few servers, and every transaction is whole', async () => {
    const serverSet = new Pool({ connectionString: url('transaction5'), max: 40 })
    await world.postgres.sql('TRUNCATE copied', [], 'app')

    await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const client = await serverSet.connect()
        for (let round = 0; round < 10; round++) {
          await client.query('BEGIN')
          await client.query('INSERT INTO copied VALUES ($1, $2)', [i, String(round)])
          await client.query('INSERT INTO copied VALUES ($1, $2)', [i, String(round)])
          await client.query(round % 2 === 0 ? 'COMMIT' : 'ROLLBACK')
        }
        client.release()
      }),
    )
    await serverSet.end()

    const { rows } = await world.postgres.sql(
      'SELECT count(*)::int, count(DISTINCT (n, t))::int AS pairs FROM copied',
      [],
      'app',
    )
    expect(rows).toEqual([{ count: 400, pairs: 200 }])
  })
})

group.skipIf(!hasProgram('psql'))('psql', () => {
  test.for(poolNames)('runs commands and copies in and out through %s', async (pool) => {
    const folder = await tempFolder()
    const [from, to] = [join(folder, 'from.tsv'), join(folder, 'to.tsv')]
    await writeFile(from, Array.from({ length: 5000 }, (_, i) => `${i}\tline ${i}\n`).join(''))

    const options = ['-X', '-A', '-t', '-v', 'ON_ERROR_STOP=1', url(pool)]
    const commands = [
      'TRUNCATE copied',
      `\\copy copied from '${from}'`,
      `\\copy (SELECT * FROM copied ORDER BY n) to '${to}'`,
      'SELECT count(*), sum(n) FROM copied',
    ].flatMap((command) => ['-c', command])
    const { code, stdout, stderr } = await runProgram('psql', [...options, ...commands])
    const same = await runProgram('cmp', [from, to])

    expect({ code, stderr, stdout }).toEqual({
      code: 0,
      stderr: '',
      stdout: 'TRUNCATE TABLE\nCOPY 5000\nCOPY 5000\n5000|12497500\n',
    })
    expect(same.code).toBe(0)
  })

  test('says what PostgreSQL says about errors', async () => {
    const args = ['-X', '-c', 'SELECT 1/0', '-c', 'SELECT * FROM nothing']
    const [direct, pooled] = await Promise.all([
      runProgram('psql', [...args, world.postgres.url('app', undefined, 'app')]),
      runProgram('psql', [...args, url('transaction1')]),
    ])

    expect(pooled).toEqual(direct)
  })
})

group.skipIf(!hasProgram('pgbench'))('pgbench', () => {
  // Prepared statements need one server for the whole session.
  test.for([
    ['simple', 'transaction5'],
    ['extended', 'transaction5'],
    ['simple', 'session5'],
    ['extended', 'session5'],
    ['prepared', 'session5'],
  ] as const)('runs transactions with the %s protocol through %s', async ([protocol, pool]) => {
    const direct = world.postgres.url('app', undefined, 'app')
    await runProgram('pgbench', ['-i', '-q', '-s', '1', direct])

    const clients = ['-n', '-c', '5', '-M', protocol]
    const { code, stdout, stderr } = await runProgram('pgbench', [...clients, '-t', '100', url(pool)])
    const select = await runProgram('pgbench', [...clients, '-S', '-t', '200', url(pool)])

    expect({ code, stderr }).toMatchObject({ code: 0 })
    expect(stdout).toMatch(/number of transactions actually processed: 500\/500/)
    expect(select.stdout).toMatch(/number of transactions actually processed: 1000\/1000/)
    expect(select.stdout).toMatch(/number of failed transactions: 0/)
  })
})
