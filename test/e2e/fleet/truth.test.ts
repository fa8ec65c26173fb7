/** What control concludes of proxies that are not as they should be, on real processes. */
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { Proxy } from '../../../shared/api.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { Authority, replaceCertificate } from '../../support/certificates.ts'
import { flotillaWords, Running } from '../../support/command-line.ts'
import { until } from '../../support/engine.ts'
import { freePort } from '../../support/free-port.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startProxy } from '../../support/processes.ts'
import type { ControlProcess, ProxyProcess } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { common, connect, fleet, openConsole, startWorld } from './world.ts'

const sql = ['CREATE ROLE app LOGIN']

const documentOf = ({ port }: Postgres) => ({
  ...common,
  pools: {
    app: { database: 'postgres', servers: [{ host: '127.0.0.1', port }], users: { app: { password: 'app' } } },
  },
})

async function proxiesOf(control: ControlProcess): Promise<Proxy[]> {
  const { body } = await control.call('GET', `/v1/fleets/${fleet}/proxies`)
  return (body as { proxies: Proxy[] }).proxies
}

/** Waits until the processes are such. */
async function untilProxies(control: ControlProcess, are: (proxies: Proxy[]) => boolean): Promise<Proxy[]> {
  let last: Proxy[] = []
  await until(
    async () => {
      last = await proxiesOf(control)
      return are(last)
    },
    () =>
      `the proxies, which are ${JSON.stringify(last.map(({ id, state, reasons, problems }) => [id, state, reasons, problems]))}`,
  )
  return last
}

const statesAre =
  (...states: string[]) =>
  (proxies: Proxy[]): boolean =>
    JSON.stringify(proxies.map(({ state }) => state)) === JSON.stringify(states)

async function problemCodes(proxy: ProxyProcess): Promise<string[]> {
  const page = await (await fetch(`${proxy.httpUrl}/metrics`)).text()
  return [...page.matchAll(/^flotilla_problem\{code="(\w+)"\} 1$/gm)].map(([, code]) => code!)
}

async function numbers(control: ControlProcess, token: string): Promise<number[]> {
  const response = await fetch(`${control.url}/v1/fleets/${fleet}/peers`, {
    headers: { authorization: `Bearer ${token}` },
  })
  const { peers } = (await response.json()) as { peers: { number: number }[] }
  return peers.map(({ number }) => number)
}

const timeout = 120_000

test(
  'two proxies with one id are duplicate, both take operations, and the one that stays is in_sync',
  { timeout },
  async () => {
    const { control, token } = await startWorld({ postgres: { sql }, proxies: [], document: documentOf })
    const first = await startProxy({ control, fleet, token }, { id: 'same' })
    const second = await startProxy({ control, fleet, token }, { id: 'same' })

    const both = await untilProxies(control, statesAre('duplicate', 'duplicate'))
    const { body } = await control.call('POST', `/v1/fleets/${fleet}/pools/app/pause`)
    const consoles = await Promise.all([first, second].map(openConsole))
    const paused = await Promise.all(
      consoles.map(async (operator) => {
        const { rows } = await operator.query<{ name: string; paused: number }>('SHOW DATABASES')
        return rows.find(({ name }) => name === 'app')?.paused
      }),
    )
    await control.call('POST', `/v1/fleets/${fleet}/pools/app/resume`)
    const different = await numbers(control, token)
    await second.stop('SIGKILL')

    expect(new Set(both.map(({ boot }) => boot)).size).toBe(2)
    expect(both[0]!.reasons).toEqual([`another process has the same name (boot ${both[1]!.boot})`])
    expect((body as { proxies: { outcome: string }[] }).proxies.map(({ outcome }) => outcome)).toEqual(['done', 'done'])
    expect(paused).toEqual([1, 1])
    expect(different).toEqual([1, 2])
    await untilProxies(control, (proxies) => proxies.some(({ state }) => state === 'in_sync'))
  },
)

test('a proxy that was killed and started again is no duplicate, and has its number', { timeout }, async () => {
  const { control, token, proxies } = await startWorld({
    postgres: { sql },
    proxies: [{ id: 'one' }],
    document: documentOf,
  })
  const [one] = proxies as [ProxyProcess]
  const [before] = await untilProxies(control, statesAre('in_sync'))
  const seen = new Set<string>()

  await one.kill9()
  await one.start()
  const [after] = await untilProxies(control, (all) => {
    for (const { state } of all) seen.add(state)
    return statesAre('in_sync')(all) && all[0]!.boot !== before!.boot
  })

  expect(after!.boot).not.toBe(before!.boot)
  expect(seen.has('duplicate')).toBe(false)
  expect(await numbers(control, token)).toEqual([1])
})

test(
  'an online restart that fails after its hello leaves one process, in_sync, with its number',
  { timeout },
  async () => {
    const takeover = join(await tempFolder(), 'takeover')
    const environment = { FLOTILLA_TAKEOVER: takeover, APP_PASSWORD: 'app' }
    const { control, token, proxies } = await startWorld({
      postgres: { sql },
      proxies: [{ id: 'one', environment }],
      document: (postgres) => {
        const { pools, ...rest } = documentOf(postgres)
        return { ...rest, pools: { app: { ...pools.app, users: { app: { password: { env: 'APP_PASSWORD' } } } } } }
      },
    })
    const [one] = proxies as [ProxyProcess]
    const [before] = await untilProxies(control, statesAre('in_sync'))
    const httpPort = await freePort()
    const source = `--control ${control.url} --fleet ${fleet} --id one --state ${one.state}`
    const addresses = `--listen-host 127.0.0.1 --listen-port ${one.port} --http-host 127.0.0.1 --http-port ${httpPort}`
    const words = flotillaWords('proxy', ...`${source} ${addresses}`.split(' '))
    // It lacks the password, so it says hello and applies nothing.
    const next = new Running(words, { FLOTILLA_TAKEOVER: takeover, FLOTILLA_PROXY_TOKEN: token })
    const [during] = await untilProxies(control, ([proxy]) => proxy?.state === 'failed')
    const numbersDuring = await numbers(control, token)

    await next.kill9()
    const [after] = await untilProxies(control, statesAre('in_sync'))

    expect(during!.boot).not.toBe(before!.boot)
    expect(numbersDuring).toEqual([1])
    expect(after!.boot).not.toBe(during!.boot)
    expect(await numbers(control, token)).toEqual([1])
    const client = await connect(one)
    expect((await client.query('SELECT 1')).rowCount).toBe(1)
  },
)

test(
  'a proxy whose token was revoked says so, and control says why it is offline; it serves on',
  { timeout },
  async () => {
    const { control, proxies } = await startWorld({ postgres: { sql }, proxies: [{ id: 'one' }], document: documentOf })
    const [one] = proxies as [ProxyProcess]
    await untilProxies(control, statesAre('in_sync'))
    const { body } = await control.call('GET', `/v1/fleets/${fleet}/tokens`)
    const [token] = (body as { tokens: { id: string }[] }).tokens

    await control.call('DELETE', `/v1/fleets/${fleet}/tokens/${token!.id}`)
    const [offline] = await untilProxies(control, statesAre('offline'))

    expect(offline!.reasons[0]).toMatch(/^not seen since .*; its token was revoked, and is refused since /)
    expect(await problemCodes(one)).toEqual(['token_refused'])
    expect(await (await fetch(`${one.httpUrl}/readyz`)).text()).toMatch(
      /^ready\ntoken_refused: control answers with 401\n/,
    )
    const client = await connect(one)
    expect((await client.query('SELECT 1')).rowCount).toBe(1)
  },
)

test('after a start with another token, secrets on disk are sealed with that one', { timeout }, async () => {
  const { control, token, proxies } = await startWorld({
    postgres: { sql },
    proxies: [{ id: 'one' }],
    document: documentOf,
  })
  const [one] = proxies as [ProxyProcess]
  const { body } = await control.call('GET', `/v1/fleets/${fleet}/tokens`)
  const second = await control.proxyToken(fleet)
  await one.stop()

  const rotated = await startProxy({ control, fleet, token: second }, { id: 'one', port: one.port, state: one.state! })
  await control.call('DELETE', `/v1/fleets/${fleet}/tokens/${(body as { tokens: { id: string }[] }).tokens[0]!.id}`)
  await rotated.stop()
  await control.stop()
  // Without control: all secrets come from the disk.
  await rotated.start()
  const client = await connect(rotated)

  expect(token).not.toBe(second)
  expect((await client.query('SELECT 1')).rowCount).toBe(1)
})

const disk = await tempFolder()
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', disk], { encoding: 'utf8' })
if (mounted.status === 0) atEndOfFile(() => void spawnSync('umount', ['-l', disk]))
else console.log(`the test of a full disk is skipped: mount failed: ${mounted.stderr.trim()}`)

test.skipIf(mounted.status !== 0)(
  'a full state disk shows with its proxy, until there is space',
  { timeout },
  async () => {
    const state = join(disk, 'one')
    const { control, postgres, proxies } = await startWorld({
      postgres: { sql },
      proxies: [{ id: 'one', state }],
      document: documentOf,
    })
    const [one] = proxies as [ProxyProcess]
    await untilProxies(control, statesAre('in_sync'))
    const ballast = spawnSync('dd', ['if=/dev/zero', `of=${join(disk, 'ballast')}`, 'bs=1k'], { encoding: 'utf8' })

    // It needs more than what the end of a write under way may have freed since.
    const document = documentOf(postgres)
    const users = Object.fromEntries(Array.from({ length: 50 }, (_, n) => [`user${n}`, { password: 'app' }]))
    const { app } = document.pools
    await control.apply(fleet, { ...document, pools: { app: { ...app, users: { ...app.users, ...users } } } })
    const [full] = await untilProxies(
      control,
      ([proxy]) => proxy?.problems.length === 1 && proxy.applied?.version === 2,
    )
    const codes = await problemCodes(one)
    rmSync(join(disk, 'ballast'))
    const [free] = await untilProxies(control, ([proxy]) => proxy?.problems.length === 0)
    await one.kill9()
    await control.stop()
    await one.start()

    expect(ballast.stderr).toMatch(/No space left/)
    expect(full).toMatchObject({ state: 'in_sync', problems: [{ code: 'state_not_saved' }] })
    expect(full!.problems[0]!.message).toMatch(/^(?:process-settings|last-known-good)\.json: ENOSPC/)
    expect(codes).toEqual(['state_not_saved'])
    expect(free).toMatchObject({ state: 'in_sync', applied: { version: 2 } })
    // What could not be saved was saved when there was space.
    const operator = await openConsole(one)
    expect((await operator.query('SHOW POOL_VERSIONS')).rows[0]).toMatchObject({ running_version: '2' })
  },
)

test('what is done at one console alone is drift, and what control does is seen at each', { timeout }, async () => {
  const { control, proxies } = await startWorld({
    postgres: { sql },
    proxies: [{ id: 'one' }, { id: 'two' }],
    document: documentOf,
  })
  const [one] = proxies as [ProxyProcess, ProxyProcess]
  await untilProxies(control, statesAre('in_sync', 'in_sync'))
  const operator = await openConsole(one)

  await operator.query('PAUSE app')
  const [paused] = await untilProxies(control, statesAre('drifted', 'in_sync'))
  const shown = await operator.query('SHOW POOL_VERSIONS')
  await operator.query('RESUME app')
  await untilProxies(control, statesAre('in_sync', 'in_sync'))
  await operator.query('SET pool_size = 7')
  const [set] = await untilProxies(control, statesAre('drifted', 'in_sync'))
  await operator.query('RELOAD')

  await untilProxies(control, statesAre('in_sync', 'in_sync'))
  expect(paused).toMatchObject({ reasons: ['app is paused at this proxy'], operated: { paused: ['app'] } })
  expect(shown.rows[0]).toMatchObject({ operated: 'paused' })
  expect(set!.reasons).toEqual(['app/app runs something else', 'pool_size was SET at its console'])
})

test(
  'a certificate that was replaced by something unusable shows with its proxy, and the former one stays',
  { timeout },
  async () => {
    const authority = await Authority.create()
    const certificate = await authority.issue('localhost')
    const { control, proxies } = await startWorld({
      postgres: { sql },
      proxies: [{ id: 'one' }],
      document: (postgres) => ({
        ...documentOf(postgres),
        general: {
          ...common.general,
          client_tls_sslmode: 'allow',
          client_tls_cert_file: certificate.certFile,
          client_tls_key_file: certificate.keyFile,
        },
      }),
    })
    const [one] = proxies as [ProxyProcess]
    await untilProxies(control, statesAre('in_sync'))

    writeFileSync(certificate.certFile, 'half of a file')
    const [broken] = await untilProxies(control, ([proxy]) => proxy?.problems.length === 1)
    const codes = await problemCodes(one)
    await replaceCertificate(certificate, await authority.issue('localhost'))

    const [whole] = await untilProxies(control, ([proxy]) => proxy?.problems.length === 0)
    expect(broken).toMatchObject({ state: 'in_sync', problems: [{ code: 'unreadable_file' }] })
    expect(broken!.problems[0]!.message).toContain('client_tls_cert_file')
    expect(codes).toEqual(['unreadable_file'])
    expect(whole!.state).toBe('in_sync')
  },
)
