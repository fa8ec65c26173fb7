/**
 * Real drivers in transaction mode with prepared statements, eight clients on two servers. Each program in this folder
 * does what its driver can do and prints a fact a line: through the pool they must be the same as on a connection
 * straight to PostgreSQL, and every client must have been on both servers.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { Authority } from '../support/certificates.ts'
import { startEngine } from '../support/engine.ts'
import type { Engine } from '../support/engine.ts'
import { lacks, startPostgres } from '../support/postgres.ts'
import type { Postgres } from '../support/postgres.ts'
import { runProgram } from '../support/program.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { newestLibpq, newestPython } from './python.ts'

interface Driver {
  readonly name: string
  /** Whether it is installed here: a command that ends with 0. */
  readonly installed: readonly [string, ...string[]]
  /** Makes what is run from what is read, once. */
  readonly compile?: (folder: string) => readonly [string, ...string[]]
  readonly run: (folder: string) => readonly [string, ...string[]]
  /** The major of PostgreSQL that its program is for. */
  readonly since?: number
}

const here = (file: string): string => join(import.meta.dirname, file)
// Debian's, which its packages of drivers belong to.
const python = '/usr/bin/python3'
const jdbc = '/usr/share/java/postgresql.jar'

const compiler = ['cc', '-E', '-include', 'postgresql/libpq-fe.h', '-x', 'c', '/dev/null'] as const

function compileWith(folder: string, ...library: readonly string[]): readonly [string, ...string[]] {
  const program = join(folder, 'with-libpq')
  return ['cc', '-I/usr/include/postgresql', '-o', program, here('with-libpq.c'), ...library]
}

const drivers: readonly Driver[] = [
  {
    name: 'node-postgres',
    installed: [process.execPath, '--version'],
    run: () => [process.execPath, here('with-node-postgres.ts')],
  },
  {
    name: 'postgres.js',
    installed: [process.execPath, '--version'],
    run: () => [process.execPath, here('with-postgres-js.ts')],
  },
  {
    name: 'pg-query-stream',
    installed: [process.execPath, '--version'],
    run: () => [process.execPath, here('with-pg-query-stream.ts')],
  },
  {
    name: 'Drizzle',
    installed: [process.execPath, '--version'],
    run: () => [process.execPath, here('with-drizzle.ts')],
  },
  { name: 'psycopg', installed: [python, '-c', 'import psycopg'], run: () => [python, here('with-psycopg.py')] },
  newest('psycopg with libpq 18', 'with-psycopg.py'),
  { ...newest('psycopg.pq', 'with-newest-libpq.py'), since: 18 },
  newest('psycopg_pool', 'with-psycopg-pool.py'),
  newest('SQLAlchemy', 'with-sqlalchemy.py'),
  { name: 'asyncpg', installed: [python, '-c', 'import asyncpg'], run: () => [python, here('with-asyncpg.py')] },
  {
    name: 'libpq',
    installed: compiler,
    compile: (folder) => compileWith(folder, '-lpq'),
    run: (folder) => [join(folder, 'with-libpq')],
  },
  {
    name: 'libpq 18',
    installed: newestLibpq === undefined ? ['false'] : compiler,
    compile: (folder) => compileWith(folder, newestLibpq ?? '', `-Wl,-rpath,${dirname(newestLibpq ?? '')}`),
    run: (folder) => [join(folder, 'with-libpq')],
  },
  {
    name: 'JDBC',
    installed: ['javac', '-cp', jdbc, '--version'],
    compile: (folder) => ['javac', '-cp', jdbc, '-d', folder, here('WithJdbc.java')],
    run: (folder) => ['java', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-cp', `${jdbc}:${folder}`, 'WithJdbc'],
  },
  { name: 'DBD::Pg', installed: ['perl', '-MDBD::Pg', '-e', '1'], run: () => ['perl', here('with-dbd-pg.pl')] },
]

/** A program for the environment of requirements.txt. */
function newest(name: string, program: string): Driver {
  return {
    name,
    installed: [newestPython, '-c', 'import psycopg, psycopg_pool, sqlalchemy'],
    run: () => [newestPython, here(program)],
  }
}

function canRun({ name, installed: [command, ...args], since }: Driver): boolean {
  const found = spawnSync(command, args).status === 0 && (name !== 'JDBC' || existsSync(jdbc))
  if (!found) process.stdout.write(`skipped: ${name} is not installed here\n`)
  return found && (since === undefined || !lacks(`the version of ${name} that is needed`, since))
}

const tables = [
  'CREATE TABLE smoke (n int, t text)',
  'ALTER TABLE smoke OWNER TO app',
  `CREATE TYPE mood AS ENUM ('happy', 'sad')`,
]

let authority: Authority
let postgres: Postgres
let engine: Engine

beforeAll(async () => {
  authority = await Authority.create()
  const names = ['DNS:localhost', 'IP:127.0.0.1']
  postgres = await startPostgres({
    auth: 'scram-sha-256',
    settings: await authority.postgresSettings(names),
    sql: ["CREATE ROLE app LOGIN PASSWORD 'secret'"],
  })
  const certificate = await authority.issue('proxy', names)
  engine = await startEngine({
    general: {
      client_tls_sslmode: 'allow',
      client_tls_cert_file: certificate.certFile,
      client_tls_key_file: certificate.keyFile,
    },
    defaults: { pool_mode: 'transaction', pool_size: 2 },
    pools: Object.fromEntries(
      drivers.map((_, index) => [
        `pooled${index}`,
        { servers: [{ host: '127.0.0.1', port: postgres.port }], users: { app: { password: 'secret' } } },
      ]),
    ),
  })
})

interface Fact {
  readonly fact: string
  readonly value: unknown
}

/** What a driver finds in a database of its own, asked at `port`. */
async function factsOf(driver: Driver, folder: string, port: number, database: string): Promise<Fact[]> {
  const name = JSON.stringify(database)
  await postgres.sql(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)
  await postgres.sql(`CREATE DATABASE ${name} OWNER app`)
  for (const statement of tables) await postgres.sql(statement, [], database)
  const [command, ...args] = driver.run(folder)
  const { code, stdout, stderr } = await runProgram(command, args, {
    PGHOST: '127.0.0.1',
    PGPORT: String(port),
    PGUSER: 'app',
    PGPASSWORD: 'secret',
    PGDATABASE: database,
    PGSSLROOTCERT: authority.caFile,
    PGCLIENTENCODING: 'UTF8',
    TZ: 'UTC',
    NODE_NO_WARNINGS: '1',
  })
  expect({ code, stderr, end: stdout.slice(-500) }).toMatchObject({ code: 0, stderr: '' })
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Fact)
}

/** The folder with what is run. */
async function compiled({ compile }: Driver): Promise<string> {
  const folder = await tempFolder()
  if (compile === undefined) return folder
  const [command, ...args] = compile(folder)
  expect(await runProgram(command, args)).toMatchObject({ code: 0 })
  return folder
}

/** Longer than any driver takes; most of it is Java's start on a busy machine. */
const timeout = 90_000

for (const [index, driver] of drivers.entries()) {
  test.skipIf(!canRun(driver))(
    `${driver.name} finds through two servers what it finds on one of its own`,
    { timeout },
    async () => {
      const folder = await compiled(driver)

      const [direct, pooled] = await Promise.all([
        factsOf(driver, folder, postgres.port, `direct${index}`),
        factsOf(driver, folder, engine.port, `pooled${index}`),
      ])

      const withoutServers = ({ fact }: Fact): boolean => fact !== 'servers'
      expect(pooled.filter(withoutServers)).toEqual(direct.filter(withoutServers))
      expect(direct.length).toBeGreaterThan(15)
      expect(pooled.find(({ fact }) => fact === 'servers')?.value).toEqual(Array(8).fill(2))
      expect((await engine.pool(`pooled${index}`)).serversActive).toBe(0)
    },
  )
}

const withJdbc = drivers.find(({ name }) => name === 'JDBC') as Driver

test.skipIf(!canRun(withJdbc))(
  '76: JDBC finds the primary in a standby that was promoted while no query ran',
  { timeout },
  async () => {
    const folder = await compiled(withJdbc)
    const standby = await startPostgres({ sql: ['CREATE ROLE app LOGIN', 'CREATE DATABASE app OWNER app'] })
    await standby.restartAsStandby()
    const own = await startEngine({
      defaults: { auth_type: 'trust', pool_size: 1 },
      pools: { app: { servers: [{ host: '127.0.0.1', port: standby.port }], users: { app: {} } } },
    })
    const environment = {
      PGHOST: '127.0.0.1',
      PGPORT: String(own.port),
      PGUSER: 'app',
      PGDATABASE: 'app',
      PGPASSWORD: '',
    }
    const [command, ...args] = withJdbc.run(folder)
    const primary = 'sslmode=disable&targetServerType=primary'
    const connects = async (): Promise<unknown> => {
      const { stdout } = await runProgram(command, [...args, primary], environment)
      return (JSON.parse(stdout) as Fact).value
    }

    const before = await connects()
    await standby.sql('SELECT pg_promote()')
    const after = await connects()

    expect([before, after]).toEqual(['08001', '1'])
  },
)
