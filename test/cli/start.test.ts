import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, readlink, rm, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Client } from 'pg'
import { expect, test, vi } from 'vitest'
import { atEndOfFile } from '../support/cleanup.ts'
import { flotilla, flotillaWords, Running } from '../support/command-line.ts'
import { freePort, freePortRun } from '../support/free-port.ts'
import { processesOfThisFile } from '../support/marked-processes.ts'
import { startPostgres } from '../support/postgres.ts'
import { tempFolder } from '../support/temp-folder.ts'

vi.setConfig({ testTimeout: 120_000 })

interface Place {
  readonly dir: string
  readonly controlPort: number
  readonly proxyPort: number
  readonly args: string[]
}

test('npm start serves from nothing, keeps what was applied, and Ctrl-C leaves nothing running', async () => {
  const place = await newPlace()

  const first = new Running(['npm', 'start', '--', ...place.args])
  process.stdout.write(`${await first.says(/ready after/)}\n`)
  const rows = await Promise.all([place.proxyPort, place.proxyPort + 1].map(askWho))
  const applied = await flotillaAt(place, ['apply', '-f', '-', '--wait'], await changed(place))
  const firstCode = await first.ctrlC()
  const left = processesOfThisFile()
  const second = new Running(flotillaWords('start', ...place.args))
  process.stdout.write(`${await second.says(/ready after/)}\n`)
  const again = await askWho(place.proxyPort)
  const secondCode = await second.ctrlC()

  expect(rows).toEqual(['app in app', 'app in app'])
  expect(applied).toMatchObject({ code: 0, stdout: expect.stringContaining('v2 is now current') as string })
  expect(left).toEqual([])
  expect(second.lines.join('\n')).toContain('Fleet demo is at v2')
  expect(again).toBe('app in app')
  expect(first.lines.at(-1)).toContain('stopping')
  expect(firstCode).toBe('SIGINT') // npm passes on what it got itself
  expect(secondCode).toBe(0)
})

test('a proxy and control that are killed are started again, and traffic does not wait for control', async () => {
  const place = await newPlace()
  const start = new Running(flotillaWords('start', ...place.args))
  await start.says(/ready after/)

  await killChild('control')
  const meanwhile = await askWho(place.proxyPort)
  await start.says(/^control restarted/)
  await killChild('proxy-2')
  await start.says(/^proxy-2 restarted/)
  const after = await askWho(place.proxyPort + 1)

  expect([meanwhile, after]).toEqual(['app in app', 'app in app'])
  expect(await start.ctrlC()).toBe(0)
})

test('a proxy that cannot start keeps neither control nor the other proxy from serving, and comes when it can', async () => {
  const place = await newPlace()
  const state = join(place.dir, 'proxy-2')
  await writeFile(state, 'in the place of a directory')
  const start = new Running(flotillaWords('start', ...place.args))
  await start.says(/ready after/)

  const meanwhile = await askWho(place.proxyPort)
  const listed = await flotillaAt(place, ['fleet', 'list'])
  await rm(state)
  await start.says(/^proxy-2 restarted/)
  const after = await askWho(place.proxyPort + 1)

  expect(start.lines.find((line) => line.startsWith('could not start proxy-2'))).toMatch(
    /state directory.*it is tried again/,
  )
  expect(listed).toMatchObject({ code: 0 })
  expect([meanwhile, after]).toEqual(['app in app', 'app in app'])
  expect(await start.ctrlC()).toBe(0)
})

test('what a killed start leaves ends by itself or with the next start', async () => {
  const place = await newPlace()
  const killed = new Running(flotillaWords('start', ...place.args))
  await killed.says(/ready after/)

  await killed.kill9()
  await eventually(() => processesOfThisFile().every(({ command }) => !command.includes(`${place.controlPort}`)))
  const next = new Running(flotillaWords('start', ...place.args))
  await next.says(/ready after/)

  expect(await askWho(place.proxyPort)).toBe('app in app')
  expect(await next.ctrlC()).toBe(0)
})

test('Ctrl-C lets an open transaction finish, and a second one does not', async () => {
  const place = await newPlace()
  const patient = new Running(flotillaWords('start', ...place.args))
  await patient.says(/ready after/)
  const client = new Client({ host: '127.0.0.1', port: place.proxyPort, user: 'app', password: 'app', database: 'app' })
  client.on('error', () => undefined) // the proxy ends it when its transaction is over
  await client.connect()
  await client.query('BEGIN')

  const ended = patient.ctrlC()
  await patient.says(/^stopping/)
  const { rows } = await client.query('SELECT 1 AS still')
  await client.query('COMMIT')
  const patientCode = await ended

  const impatient = new Running(flotillaWords('start', ...place.args))
  await impatient.says(/ready after/)
  const other = new Client({ host: '127.0.0.1', port: place.proxyPort, user: 'app', password: 'app', database: 'app' })
  const cut = new Promise((resolve) => other.once('error', resolve))
  await other.connect()
  await other.query('BEGIN')
  const code = impatient.ctrlC()
  await impatient.says(/^stopping/)
  await new Promise((resolve) => setTimeout(resolve, 600)) // sooner, npm may have handed on the same Ctrl-C
  void impatient.ctrlC()

  expect(rows).toEqual([{ still: 1 }])
  expect(patientCode).toBe(0)
  expect(await cut).toBeInstanceOf(Error)
  expect(await code).toBe(0)
})

test('a reader that leaves stops everything in order', async () => {
  const place = await newPlace()
  const start = new Running(flotillaWords('start', ...place.args))
  await start.says(/ready after/)

  start.child.stdout?.destroy()
  start.child.stderr?.destroy()
  await killChild('proxy-2') // which is something to say

  await eventually(() => processesOfThisFile().length === 0)
  expect(existsSync(join(place.dir, 'started-by'))).toBe(false)
  expect(existsSync(join(place.dir, 'postgres/postmaster.pid'))).toBe(false)
})

test('with --postgres the pool app leads to the database of the URL', async () => {
  const postgres = await startPostgres({
    auth: 'scram-sha-256',
    sql: ["CREATE ROLE owner LOGIN PASSWORD 'p@ss/word'", 'CREATE DATABASE shop OWNER owner'],
  })
  const place = await newPlace()

  const start = new Running(
    flotillaWords('start', ...place.args, '--postgres', postgres.url('owner', 'p@ss/word', 'shop')),
  )
  await start.says(/ready after/)

  expect(await askWho(place.proxyPort)).toBe('owner in shop')
  expect(start.lines.join('\n')).not.toContain('p@ss')
  expect(existsSync(join(place.dir, 'postgres'))).toBe(false)
  expect(await start.ctrlC()).toBe(0)
})

test.runIf(process.getuid?.() === 0)('root may keep the data in a directory that only root may read', async () => {
  const place = await newPlace()
  await chmod(place.dir, 0o700)
  const dir = join(place.dir, 'inside')

  const start = new Running(flotillaWords('start', ...place.args, '--data', dir))
  await start.says(/ready after/)
  const cluster = await readlink(join(dir, 'postgres'))
  atEndOfFile(() => rm(join(cluster, '..'), { recursive: true, force: true }))

  expect(await askWho(place.proxyPort)).toBe('app in app')
  expect(await start.ctrlC()).toBe(0)
})

/** What is wrong, how it is made so, and the one line that must be said. */
interface Bad {
  what: string
  spoil: (place: Place) => Promise<string[] | void>
  /** Start once before, so that there is something to damage. */
  after?: 'a first start'
  says: RegExp
}

const bad: readonly Bad[] = [
  {
    what: 'the port of control is in use',
    spoil: ({ controlPort }) => occupy(controlPort),
    says: /port \d+ is in use: .* --control-port/,
  },
  {
    what: 'the port of the second proxy is in use',
    spoil: ({ proxyPort }) => occupy(proxyPort + 1),
    says: /port \d+ is in use: .* --proxy-port/,
  },
  {
    what: 'the URL is not one',
    spoil: async () => ['--postgres', 'localhost:5432'],
    says: /--postgres requires a URL like postgresql:/,
  },
  {
    what: 'nothing listens at the URL',
    spoil: async () => ['--postgres', `postgresql://u:secret@127.0.0.1:${await freePort()}/d`],
    says: /could not connect to the server of --postgres: .*ECONNREFUSED/,
  },
  {
    what: 'the URL has a wrong password',
    spoil: async () => {
      const postgres = await startPostgres({ auth: 'scram-sha-256', sql: ["CREATE ROLE u LOGIN PASSWORD 'right'"] })
      return ['--postgres', postgres.url('u', 'secret')]
    },
    says: /could not connect to the server of --postgres: .*password authentication failed/,
  },
  {
    what: 'the URL names a database that is not there',
    spoil: async () => ['--postgres', (await startPostgres()).url('postgres', undefined, 'nowhere')],
    says: /could not connect to the server of --postgres: .*database "nowhere" does not exist/,
  },
  {
    what: 'the data folder is a file',
    spoil: async ({ dir }) => {
      await rm(dir, { recursive: true })
      await writeFile(dir, '')
      atEndOfFile(() => rm(dir, { force: true }))
    },
    says: /could not create the data directory .*/,
  },
  {
    what: 'the token file is empty',
    spoil: ({ dir }) => writeFile(join(dir, 'token'), ''),
    says: /token contains no token: remove it/,
  },
  {
    what: 'the PostgreSQL folder holds something else',
    spoil: async ({ dir }) => {
      await mkdir(join(dir, 'postgres'))
      await writeFile(join(dir, 'postgres', 'notes.txt'), 'mine')
    },
    says: /postgres is not a complete PostgreSQL data directory: move it away/,
  },
  {
    what: "PostgreSQL's control file is damaged",
    after: 'a first start',
    spoil: ({ dir }) => truncate(join(dir, 'postgres/global/pg_control'), 100),
    says: /could not start the embedded PostgreSQL in .*: .*pg_control/,
  },
  {
    what: "control's SQLite file is garbage",
    spoil: async ({ dir }) => {
      await mkdir(join(dir, 'control'))
      await writeFile(
        join(dir, 'control/control.db'),
        'not a database, but long enough to be read as one. '.repeat(400),
      )
    },
    says: /could not start control: .*control\.db/,
  },
  {
    what: "control's secret key is damaged",
    spoil: async ({ dir }) => {
      await mkdir(join(dir, 'control'))
      await writeFile(join(dir, 'control/secret.key'), 'short', { mode: 0o600 })
    },
    says: /could not start control: .*secret\.key/,
  },
]

test.for(bad)('one line and exit code 1 when $what', async ({ spoil, after, says }) => {
  const place = await newPlace()
  if (after !== undefined) {
    const first = new Running(flotillaWords('start', ...place.args))
    await first.says(/ready after/)
    await first.ctrlC()
  }
  const more = (await spoil(place)) ?? []
  const before = running()

  const { code, stdout, stderr } = await flotilla(['start', ...place.args, ...more])

  expect(stderr.trim().split('\n')).toEqual([expect.stringMatching(says)])
  expect(stderr).not.toContain('secret@')
  expect(stdout).toBe('')
  expect(code).toBe(1)
  expect(running().filter((one) => !before.includes(one))).toEqual([])
})

test('a second start on the same folder is refused, and the first goes on', async () => {
  const place = await newPlace()
  const other = await newPlace()
  const first = new Running(flotillaWords('start', ...place.args))
  await first.says(/ready after/)

  const { code, stderr } = await flotilla(['start', ...other.args, '--data', place.dir])

  expect(stderr).toMatch(/is in use by another start \(process \d+\)/)
  expect(code).toBe(1)
  expect(await askWho(place.proxyPort)).toBe('app in app')
  expect(await first.ctrlC()).toBe(0)
})

async function newPlace(): Promise<Place> {
  const dir = await tempFolder()
  await chmod(dir, 0o711)
  const [controlPort, proxyPort] = [await freePort(), await freePortRun(2)]
  const args = ['--data', dir, '--control-port', String(controlPort), '--proxy-port', String(proxyPort)]
  return { dir, controlPort, proxyPort, args }
}

/** "user in database", as PostgreSQL sees the client of the pool. */
async function askWho(port: number): Promise<string> {
  const client = new Client({ host: '127.0.0.1', port, user: 'app', password: 'app', database: 'app' })
  await client.connect()
  try {
    const { rows } = await client.query<{ who: string }>("SELECT current_user || ' in ' || current_database() AS who")
    return rows[0]?.who ?? ''
  } finally {
    await client.end()
  }
}

async function flotillaAt(place: Place, args: readonly string[], input = '') {
  const token = (await readFile(join(place.dir, 'token'), 'utf8')).trim()
  const environment = { FLOTILLA_URL: `http://127.0.0.1:${place.controlPort}`, FLOTILLA_TOKEN: token }
  return flotilla(args, { environment, input })
}

/** The current configuration with another pool_size. */
async function changed(place: Place): Promise<string> {
  const { stdout } = await flotillaAt(place, ['show', '1', '--json'])
  const document = JSON.parse(stdout) as { pools: { app: Record<string, unknown> } }
  document.pools.app['pool_size'] = 3
  return JSON.stringify(document)
}

/** SIGKILL to the one process of this file whose arguments hold the word. */
async function killChild(word: string): Promise<void> {
  const found = processesOfThisFile().filter(({ command }) => command.split(' ').includes(word))
  expect(found).toHaveLength(1)
  process.kill(found[0]?.pid as number, 'SIGKILL')
}

/** Programs by their command lines, each once: PostgreSQL's children begin with the line of their parent. */
function running(): string[] {
  const commands = processesOfThisFile().map(({ command }) => command)
  return [...new Set(commands.filter((command) => /main\.ts|-D /.test(command)))].toSorted()
}

async function occupy(port: number): Promise<void> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  atEndOfFile(() => void server.close())
}

async function eventually(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20))
}
