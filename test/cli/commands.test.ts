import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { atEndOfFile } from '../support/cleanup.ts'
import { flotilla, flotillaWords, Running } from '../support/command-line.ts'
import { until } from '../support/engine.ts'
import { startPostgres } from '../support/postgres.ts'
import type { Postgres } from '../support/postgres.ts'
import { startControl, startProxy } from '../support/processes.ts'
import type { ControlProcess } from '../support/processes.ts'
import { tempFolder } from '../support/temp-folder.ts'

let control: ControlProcess
let postgres: Postgres
let folder: string

beforeAll(async () => {
  control = await startControl()
  postgres = await startPostgres({ auth: 'scram-sha-256', sql: ["CREATE ROLE app LOGIN PASSWORD 'app'"] })
  folder = await tempFolder()
})

test('a fleet is made, listed, and found again when it is made twice', async () => {
  const made = await run('fleet create inventory')
  const again = await run('fleet create inventory')
  const listed = await run('fleet list')

  expect(made).toMatchObject({ code: 0, stdout: 'fleet inventory is at v0\n' })
  expect(again).toEqual(made)
  expect(listed.stdout).toMatch(/^FLEET +VERSION +PROXIES +ORDERS +CREATED\ninventory +v0 +0 +0 +20/m)
})

test('versions are applied, listed, shown, compared and rolled back', async () => {
  await run('fleet create story')
  const file = await written({ pool_size: 5 })
  const bigger = await written({ pool_size: 9 })

  const planned = await run(`plan --fleet story -f ${file}`)
  const first = await run(`apply --fleet story -f ${file} -m first-of-all`)
  const same = await run(`apply --fleet story -f ${file}`)
  const second = await run(`apply --fleet story -f ${bigger}`)
  const differences = await run('diff 1 2 --fleet story')
  const considered = await run('rollback 1 --dry-run --fleet story')
  const overtaken = await run('rollback 1 --if-match v1 --fleet story')
  const back = await run('rollback 1 --if-match v2 --fleet story')
  const versions = await run('versions --fleet story')
  const shown = await run('show 3 --fleet story')
  const fromInput = await run('apply --fleet story -f -', shown.stdout)

  expect(planned.stdout).toBe('+ app/app  added: new pool\n')
  expect(first.stdout).toBe('v1 is now current\n+ app/app  added: new pool\n')
  expect(same.stdout).toBe('v1 is already current: no changes\n')
  expect(second.stdout).toBe('v2 is now current\n~ app/app  retuned: new values; server connections are kept\n')
  expect(differences.stdout).toContain('~ pools.app.pool_size = 5 -> 9\n')
  expect(considered.stdout).toBe(
    'v3 would have the content of v1\n~ app/app  retuned: new values; server connections are kept\n',
  )
  expect(overtaken).toMatchObject({ code: 1, stdout: '' })
  expect(overtaken.stderr).toContain('the current version is v2; nothing was stored')
  expect(back.stdout).toMatch(/^v3 is now current, with the content of v1\n/)
  expect(versions.stdout).toMatch(/^v3 .* v1 +-\nv2 .* - +-\nv1 .* - +first-of-all$/m)
  expect(shown.stdout).toContain('pool_size = 5')
  expect(shown.stdout).not.toContain('password = "app"')
  expect(fromInput.stdout).toBe('v3 is already current: no changes\n')
})

test('a refused configuration names path and remedy, stores nothing, and ends with 1', async () => {
  await run('fleet create strict')
  const file = await written({ pool_sise: 5 })

  const refused = await run(`apply --fleet strict -f ${file}`)
  const listed = await run('fleet list')

  expect(refused.code).toBe(1)
  expect(refused.stdout).toBe('')
  expect(refused.stderr).toMatch(/pools\.app\.pool_sise: .*pool_size/)
  expect(listed.stdout).toMatch(/strict +v0/)
})

test('TOML that is broken is refused with its line', async () => {
  await run('fleet create broken')

  const refused = await run('apply --fleet broken -f -', '[pools.app]\nservers = [\n')

  expect(refused.code).toBe(1)
  expect(refused.stderr).toMatch(/line \d+/)
})

test('--if-match refuses when another version is current, and says which', async () => {
  await run('fleet create race')
  await run(`apply --fleet race -f ${await written({ pool_size: 1 })}`)

  const stale = await run(`apply --fleet race --if-match v0 -f ${await written({ pool_size: 2 })}`)

  expect(stale.code).toBe(1)
  expect(stale.stderr).toContain('flotilla show 1')
})

test('--wait shows each proxy as it takes a version, and ends with 1 when one refuses it', async () => {
  const token = (await run('token create edge --fleet waiting', '', { makeFleet: 'waiting' })).stdout.trim()
  await run(`apply --fleet waiting -f ${await written({ pool_size: 5 })}`)
  await startProxy({ control, fleet: 'waiting', token }, { id: 'alpha' })
  await startProxy({ control, fleet: 'waiting', token }, { id: 'beta' })

  const taken = await run(`apply --fleet waiting --wait -f ${await written({ pool_size: 6 })}`)
  const refused = await run(
    `apply --fleet waiting --wait -f ${await written({ pool_size: 7 }, 'no.such.host.invalid')}`,
  )
  const listed = await run('proxies --fleet waiting')
  const reloaded = await run('reload --wait --timeout 5 --fleet waiting')
  const back = await run('rollback 1 --wait --fleet waiting')

  expect(taken.code).toBe(0)
  expect(taken.stderr).toMatch(/^alpha: runs v2$/m)
  expect(taken.stderr).toMatch(/^beta: runs v2$/m)
  expect(refused.code).toBe(1)
  expect(refused.stderr).toMatch(/^alpha: rejected v3: unresolvable_host in app\/app: .*no\.such\.host\.invalid/m)
  expect(listed.stdout).toMatch(/^alpha +failed +v2 .*unresolvable_host/m)
  expect(reloaded.code).toBe(1)
  expect(back.code).toBe(0)
  expect(back.stderr).toMatch(/^beta: runs v4$/m)
})

/** Of tests with many commands, each of which starts a process. */
const longMs = 90_000

/** As control knows a proxy that has been away for long. */
function knowOffline(fleet: string, id: string): void {
  const database = new Database(join(control.folder, 'control.db'))
  const columns = 'fleet, id, boot, hello_at, known_at, last_seen_at'
  const longAgo = new Date(Date.now() - 3_600_000).toISOString()
  database
    .prepare(`INSERT INTO proxies (${columns}) VALUES (?, ?, 'b', ?, ?, ?)`)
    .run(fleet, id, longAgo, longAgo, longAgo)
  database.close()
}

test('--wait ends with 3 where no proxy or not every proxy was reached', { timeout: longMs }, async () => {
  const token = (await run('token create edge --fleet far', '', { makeFleet: 'far' })).stdout.trim()
  const empty = await run(`apply --fleet far --wait -f ${await written({ pool_size: 5 })}`)
  await startProxy({ control, fleet: 'far', token }, { id: 'here' })
  knowOffline('far', 'gone')

  const offline = await run(`apply --fleet far --wait -f ${await written({ pool_size: 7 })}`)
  const allowed = await run('rollback 1 --fleet far --wait --allow-offline 1')
  const [reloaded, reloadAllowed, unasked, shown] = [
    await run('reload --fleet far --wait'),
    await run('reload --fleet far --wait --allow-offline 1'),
    await run('reload --fleet far'),
    await run('proxies --fleet far'),
  ]

  expect([empty, offline, reloaded].map(({ code }) => code)).toEqual([3, 3, 3])
  expect([allowed, reloadAllowed, unasked].map(({ code }) => code)).toEqual([0, 0, 0])
  expect(empty.stderr).toContain('no proxy has joined this fleet yet')
  expect(offline.stderr).toMatch(/^here: runs v2$/m)
  expect(offline.stderr).toMatch(/^gone: is offline \(not seen since .*\); it will apply v2 when it is back$/m)
  expect(shown.stdout).toMatch(/^gone +offline .*not seen since/m)
})

test('a pool that does not serve shows everywhere, and --wait ends with 1', { timeout: longMs }, async () => {
  const role = 'silent'
  await postgres.sql(`CREATE ROLE ${role} LOGIN PASSWORD 'app'`)
  const token = (await run('token create edge --fleet silent', '', { makeFleet: 'silent' })).stdout.trim()
  const documentOf = (size: number) =>
    JSON.stringify({
      general: { poll_interval: '1s' },
      admin_users: { admin: { password: 'admin' } },
      defaults: { pool_size: size },
      pools: {
        app: {
          database: 'postgres',
          servers: [{ host: '127.0.0.1', port: postgres.port }],
          users: { [role]: { password: 'app' } },
        },
      },
    })
  await run('apply --fleet silent -f -', documentOf(1))
  const proxy = await startProxy({ control, fleet: 'silent', token }, { id: 'alpha' })
  const login = new Client({ host: proxy.host, port: proxy.port, user: role, password: 'app', database: 'app' })
  login.on('error', () => undefined)
  await login.connect()
  await login.query('SELECT 1')
  await postgres.sql(`ALTER ROLE ${role} NOLOGIN`)
  await postgres.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${role}'`)
  await login.end().catch(() => undefined)
  // The first one may still find the server that is ending.
  await until(async () => {
    const late = new Client({ host: proxy.host, port: proxy.port, user: role, password: 'app', database: 'app' })
    late.on('error', () => undefined)
    const error = await late.connect().then(async () => await late.query('SELECT 1').then(() => null, String), String)
    await late.end().catch(() => undefined)
    return error?.includes('is not permitted to log in') === true
  })

  const applied = await run('apply --fleet silent --wait --timeout 5 -f -', documentOf(2))
  const listed = await run('proxies --fleet silent')
  const shown = await run('proxy show alpha --fleet silent')
  const fleets = await run('fleet list')
  const metrics = await (await fetch(`${proxy.httpUrl}/metrics`)).text()
  const ready = await fetch(`${proxy.httpUrl}/readyz`)
  const controlMetrics = await (await fetch(`${control.url}/metrics`)).text()
  const operator = new Client({
    host: proxy.host,
    port: proxy.port,
    user: 'admin',
    password: 'admin',
    database: 'pgbouncer',
  })
  await operator.connect()
  const console = await operator.query('SHOW POOL_VERSIONS')
  await operator.end()
  await postgres.sql(`ALTER ROLE ${role} LOGIN`)
  const repaired = new Client({ host: proxy.host, port: proxy.port, user: role, password: 'app', database: 'app' })
  await repaired.connect()
  await repaired.end()
  const again = await run('reload --fleet silent --wait --timeout 10')

  const cause = /role "silent" is not permitted to log in/
  expect(applied.code).toBe(1)
  expect(applied.stderr).toMatch(/^alpha: degraded: app\/silent does not serve since .*: 28000: role "silent" is not/m)
  expect(listed.stdout).toMatch(/^alpha +degraded +v2 .* app\/silent does not serve since/m)
  expect(shown.stdout).toMatch(/^state +degraded$/m)
  expect(shown.stdout).toMatch(/^app +silent +running +no since .*28000: role "silent"/m)
  expect(fleets.stdout).toMatch(/^silent .*1 degraded/m)
  expect(metrics).toContain('flotilla_pool_serving{database="app",user="silent"} 0')
  expect(controlMetrics).toContain('flotilla_control_proxies{fleet="silent",state="degraded"} 1')
  expect(ready.status).toBe(200)
  expect(await ready.text()).toMatch(cause)
  expect(console.rows[0]).toMatchObject({ serving: 'no', serving_error: expect.stringMatching(cause) as string })
  expect(again.code).toBe(0)
  expect((await run('proxies --fleet silent')).stdout).toMatch(/^alpha +in_sync +v2/m)
})

test('lost server connections are listed, and followed as they happen', async () => {
  const token = (await run('token create edge --fleet losing', '', { makeFleet: 'losing' })).stdout.trim()
  await run(`apply --fleet losing -f ${await written({ min_pool_size: 1 })}`)
  await startProxy({ control, fleet: 'losing', token }, { id: 'alpha' })
  const follower = new Running(flotillaWords('disconnects', '--follow', '--fleet', 'losing'), environment())
  await untilBackend()

  await postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
  const line = await follower.says(/terminated/)
  const code = await follower.ctrlC()
  const listed = await run('disconnects --fleet losing --cause terminated')
  const none = await run('disconnects --fleet losing --cause reset')

  expect(line).toContain('57P01')
  expect(code).toBe(0)
  expect(listed.stdout).toMatch(/app\/app +127\.0\.0\.1:\d+ +terminated +idle .*57P01/)
  expect(none.stdout.trim().split('\n')).toHaveLength(1)
})

test('a token is shown once, listed without its value, and revoked', async () => {
  const created = await run('token create ci --fleet tokens --json', '', { makeFleet: 'tokens' })
  const { id, token } = JSON.parse(created.stdout) as { id: string; token: string }
  const revoked = await run(`token revoke ${id} --fleet tokens`)
  const listed = await run('token list --fleet tokens')
  const unknown = await run('token revoke missing --fleet tokens')

  expect(token.length).toBeGreaterThan(20)
  expect(revoked).toMatchObject({ code: 0, stdout: `token ${id} is revoked\n` })
  expect(listed.stdout).toMatch(new RegExp(`^${id} +ci +20.* 20`, 'm'))
  expect(listed.stdout).not.toContain(token)
  expect(unknown.code).toBe(1)
})

test('a secret is put from standard input, never shown, and listed with where it is used', async () => {
  await run('fleet create keeping')
  const file = await written({}, '127.0.0.1', '{ secret = "web" }')
  const made = await run('secret put web --fleet keeping', 'first value\n')
  const same = await run('secret put web --fleet keeping', 'first value')
  await run(`apply --fleet keeping -f ${file}`)
  const second = await run('secret put web --fleet keeping', 'second value')
  const listed = await run('secret list --fleet keeping')
  const json = await run('secret list --fleet keeping --json')
  await run(`apply --fleet keeping -f ${file}`)
  const taken = await run('secret list --fleet keeping')
  const empty = await run('secret put web --fleet keeping', '\n')
  const onTheLine = await run('secret put web hunter22 --fleet keeping')

  expect(made).toMatchObject({ code: 0, stdout: 'created version 1 of web\n' })
  expect(same).toMatchObject({ code: 0, stdout: 'version 1 of web already has this value\n' })
  expect(second).toMatchObject({ code: 0, stdout: 'created version 2 of web\n' })
  expect(second.stderr).toMatch(/^pools\.app\.users\.app\.password uses version 1/)
  expect(listed.stdout).toMatch(/^web +2 +plain +20.*Z +pools\.app\.users\.app\.password \(version 1\)$/m)
  expect(taken.stdout).toMatch(/ pools\.app\.users\.app\.password$/m)
  expect(listed.stdout + json.stdout).not.toContain('value')
  expect(empty).toMatchObject({ code: 1, stdout: '' })
  expect(onTheLine.code).toBe(2)
  expect(onTheLine.stdout + onTheLine.stderr).not.toContain('hunter22')
})

// The command loads all of control, so the process starts are few; the rest of the rule is tested in control/node/start.
test('epoch raise works on the store of a running control, and refuses a folder without one', async () => {
  await control.call('PUT', '/v1/fleets/restored')

  const [raised, wrong] = await Promise.all([
    flotilla(['epoch', 'raise', '--data', control.folder]),
    flotilla(['epoch', 'raise', '--data', folder]),
  ])
  const { body } = await control.call('GET', '/v1/fleets/restored')
  const asked = await run('epoch raise')
  const confirmed = await run('epoch raise --yes')

  expect(asked).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('not confirmed: --yes raises it to 3') as string,
  })
  expect(confirmed.stdout).toMatch(/^the epoch is now 3: /)
  expect(raised).toMatchObject({ code: 0, stdout: expect.stringMatching(/^the epoch is now 2: /) as string })
  expect(body).toMatchObject({ epoch: 2 })
  expect(wrong).toMatchObject({
    code: 1,
    stderr: `flotilla epoch raise: ${folder} contains no control.db: specify control's data directory with --data\n`,
  })
})

/** The configuration of a version in a file, as `flotilla show N > FILE` writes it. */
async function shownInFile(fleet: string, version: number, name: string): Promise<string> {
  const file = join(folder, name)
  await writeFile(file, (await run(`show ${version} --fleet ${fleet}`)).stdout)
  return file
}

async function edit(file: string, from: string | RegExp, to: string): Promise<void> {
  await writeFile(file, (await readFile(file, 'utf8')).replace(from, to))
}

test('a file that was shown replaces the version it came from, and then the one it became', async () => {
  await run('fleet create edited')
  await run(`apply --fleet edited -f ${await written({ pool_size: 5 })}`)
  const file = await shownInFile('edited', 1, 'edited.toml')

  await edit(file, 'pool_size = 5', 'pool_size = 6')
  const first = await run(`apply --fleet edited -f ${file}`)
  await edit(file, 'pool_size = 6', 'pool_size = 7')
  const second = await run(`apply --fleet edited -f ${file}`)

  expect([first.code, second.code]).toEqual([0, 0])
  expect((await readFile(file, 'utf8')).split('\n', 1)).toEqual(['# fleet edited, version v3'])
})

test('two operators who change one version: the second is shown both changes, and can join them', async () => {
  await run('fleet create shared')
  await run(`apply --fleet shared -f ${await written({ pool_size: 5, min_pool_size: 1 })}`)
  const [mine, theirs] = [await shownInFile('shared', 1, 'mine.toml'), await shownInFile('shared', 1, 'theirs.toml')]
  await edit(theirs, 'pool_size = 5', 'pool_size = 6')
  await run(`apply --fleet shared -f ${theirs}`)
  await edit(mine, 'min_pool_size = 1', 'min_pool_size = 2')

  const refused = await run(`apply --fleet shared -f ${mine}`)
  const joined = await run(`apply --fleet shared --rebase -f ${mine}`)
  const current = await run('show 3 --fleet shared')

  expect(refused).toMatchObject({ code: 1, stdout: '' })
  expect(refused.stderr).toContain(`v2 is current, and ${mine} came from v1; nothing was stored`)
  expect(refused.stderr).toMatch(/changed since v1:\n +~ pools\.app\.pool_size = 5 -> 6\n/)
  expect(refused.stderr).toMatch(/changed in .*mine\.toml:\n +~ pools\.app\.min_pool_size = 1 -> 2\n/)
  expect(joined).toMatchObject({ code: 0, stderr: `${mine} lacks the changes of others: see \`flotilla show 3\`\n` })
  expect(current.stdout).toContain('pool_size = 6')
  expect(current.stdout).toContain('min_pool_size = 2')
})

test('two operators who change one value are not joined', async () => {
  await run('fleet create contested')
  await run(`apply --fleet contested -f ${await written({ pool_size: 5 })}`)
  const [mine, theirs] = [await shownInFile('contested', 1, 'a.toml'), await shownInFile('contested', 1, 'b.toml')]
  await edit(theirs, 'pool_size = 5', 'pool_size = 6')
  await run(`apply --fleet contested -f ${theirs}`)
  await edit(mine, 'pool_size = 5', 'pool_size = 7')

  const refused = await run(`apply --fleet contested --rebase -f ${mine}`)

  expect(refused).toMatchObject({ code: 1, stdout: '' })
  expect(refused.stderr).toContain('both v2 and the file have changed, differently:\n  pools.app.pool_size\n')
})

test('a file of another fleet replaces nothing there but what is current', async () => {
  await run('fleet create from')
  await run('fleet create onto')
  await run(`apply --fleet from -f ${await written({ pool_size: 5 })}`)
  const file = await shownInFile('from', 1, 'from.toml')

  const copied = await run(`apply --fleet onto -f ${await written({ pool_size: 5 })}`)
  const rebase = await run(`apply --fleet onto --rebase -f ${file}`)

  expect(copied.code).toBe(0)
  expect(rebase.code).toBe(2)
  expect(rebase.stderr).toContain('for fleet onto')
})

test('a rollback says which secrets keep their value, and what brings the former one back', async () => {
  await run('fleet create rotated')
  await run(`apply --fleet rotated -f ${await written({ pool_size: 5 })}`)
  await run(`apply --fleet rotated -f ${await written({ pool_size: 9 }, '127.0.0.1', '"rotated"')}`)
  const name = 'pools.app.users.app.password'

  const kept = await run('rollback 1 --fleet rotated')
  const asOf = await run('rollback 1 --secrets as-of --fleet rotated')

  expect(kept.stdout).toContain(
    `  ${name} keeps ${name} v2; v1 had v1\n  --secrets as-of returns to the former values\n`,
  )
  expect(asOf.stdout).toContain(`~ ${name}  secret ${name}: v2 -> v1\n`)
})

test.for([
  [''],
  ['fly'],
  ['fleet'],
  ['apply'],
  ['show'],
  ['show one'],
  ['diff 1'],
  ['rollback 1 2'],
  ['apply -f x --if-match v3 --rebase'],
  ['rollback 1 --secrets old'],
  ['rollback 1 --dry-run --wait'],
  ['apply -f x --allow-offline 1'],
  ['reload --wait --allow-offline some'],
  ['proxy show'],
  ['versions --limit none'],
  ['versions --no-such-option'],
  ['apply -f x --if-match 3'],
  ['proxy'],
  ['proxy --listen-port 99999 --config x'],
  ['start --proxy-port many'],
])('wrong usage ends with 2 and says how: flotilla %s', async ([line]) => {
  const { code, stdout, stderr } = await run(line as string)

  expect(code).toBe(2)
  expect(stdout + stderr).toMatch(/^usage: flotilla/m)
})

test.for(['', 'apply', 'fleet create', 'proxy', 'control', 'start'])('help is given for "%s"', async (name) => {
  const { code, stdout } = await run(`${name} --help`.trim())

  expect(code).toBe(0)
  expect(stdout).toMatch(/^usage: flotilla/)
})

test('every command answers JSON that a program can read', async () => {
  await run('fleet create programs')
  await run(`apply --fleet programs -f ${await written({ pool_size: 5 })}`)
  const lines = ['fleet list', 'versions', 'show 1', 'diff 0 1', 'proxies', 'disconnects', 'token list', 'reload']

  const answers = await Promise.all(lines.map((line) => run(`${line} --fleet programs --json`)))

  expect(answers.map(({ code, stdout }) => [code, typeof JSON.parse(stdout)])).toEqual(lines.map(() => [0, 'object']))
})

test('a wrong token, a control that is away and one that is no control each give one line and 1', async () => {
  const other = createServer((_, response) => response.end('<html>'))
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  atEndOfFile(() => void other.close())
  const { port } = other.address() as AddressInfo

  const wrong = await run('versions --token guessed')
  const away = await run('versions --url http://127.0.0.1:9')
  const html = await run(`versions --url http://127.0.0.1:${port}`)
  const none = await flotilla(['versions'], { environment: { ...environment(), FLOTILLA_TOKEN: '' }, cwd: folder })

  expect([wrong, away, html, none].map(({ code }) => code)).toEqual([1, 1, 1, 1])
  expect(wrong.stderr).toMatch(/token/)
  expect(wrong.stderr).not.toContain('guessed')
  expect(away.stderr).toMatch(/^flotilla versions: could not connect to control at http:\/\/127\.0\.0\.1:9 \(.*\n$/)
  expect(html.stderr).toMatch(/unexpected response \(status 200\).*\n$/)
  expect(none.stderr).toMatch(/no token: /)
})

test('control refuses to start without a token, and says so in one line', async () => {
  const { code, stderr } = await flotilla(['control', '--data', folder], { environment: { FLOTILLA_TOKEN: '' } })

  expect(code).toBe(1)
  expect(stderr).toBe("flotilla control: FLOTILLA_TOKEN must be set to the operator's token\n")
})

test('control refuses networks for proxies that are none', async () => {
  const { code, stderr } = await flotilla(['control', '--data', folder, '--proxy-networks', '10.0.0.0/8,fdaa::/129'], {
    environment: { FLOTILLA_TOKEN: 'the-operator-of-the-tests' },
  })

  expect(code).toBe(2)
  expect(stderr).toContain('--proxy-networks: "fdaa::/129" is not a network such as 10.0.0.0/8 or fdaa::/16')
})

function environment(): Record<string, string> {
  return { FLOTILLA_URL: control.url, FLOTILLA_TOKEN: control.token }
}

/** A command line as typed, split at blanks. */
async function run(line: string, input = '', how: { makeFleet?: string } = {}) {
  if (how.makeFleet !== undefined) await run(`fleet create ${how.makeFleet}`)
  return flotilla(line === '' ? [] : line.split(' '), { environment: environment(), input })
}

/** A TOML file with the pool `app`, and these keys in it. */
async function written(
  keys: Readonly<Record<string, number>>,
  host = '127.0.0.1',
  password = '"app"',
): Promise<string> {
  const file = join(folder, `${Object.entries(keys).flat().join('-')}-${host}-${password.length}.toml`)
  const lines = Object.entries(keys).map(([key, value]) => `${key} = ${value}`)
  await writeFile(
    file,
    `[pools.app]
database = "postgres"
servers = [{ host = "${host}", port = ${postgres.port}, role = "primary" }]
${lines.join('\n')}
[pools.app.users.app]
password = ${password}
`,
  )
  return file
}

/** Until a proxy has logged in to PostgreSQL. */
async function untilBackend(): Promise<void> {
  for (;;) {
    const { rowCount } = await postgres.sql("SELECT 1 FROM pg_stat_activity WHERE usename = 'app' AND state = 'idle'")
    if ((rowCount ?? 0) > 0) return
  }
}
