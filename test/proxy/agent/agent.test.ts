import { join } from 'node:path'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { createHmac } from 'node:crypto'
import { expect, test } from 'vitest'
import { mockSalt } from '../../../proxy/mock-salt.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { hintSecret, ScriptedControl } from './scripted-control.ts'
import { ScriptedAgent } from './scripted-agent.ts'
import { enginePort } from './scripted-engine.ts'
import { lostServer } from './disconnect-event.ts'
import { until } from './until.ts'

const toml = (poolSize: number, host = '127.0.0.1', password = '{ secret = "web", version = 1 }'): string => `
  [pools.app]
  pool_size = ${poolSize}
  servers = [{ host = "${host}", port = 5432 }]
  [pools.app.users.web]
  password = ${password}
`

async function newFleet(given: Partial<ConstructorParameters<typeof ScriptedAgent>[0]> = {}) {
  const control = new ScriptedControl()
  await control.start()
  control.secrets.set('web@1', 'a secret word')
  const source = {
    kind: 'control' as const,
    url: control.url,
    fleet: 'demo',
    token: 'flp_token',
    stateFolder: join(await tempFolder(), 'state'),
    proxyId: 'one',
  }
  const proxy = new ScriptedAgent({ source, ...given })
  return { control, source, proxy }
}

function signed(body: object, id = 'msg_1'): { body: string; headers: Record<string, string> } {
  const text = JSON.stringify(body)
  const timestamp = String(Math.floor(Date.now() / 1000))
  const key = Buffer.from(hintSecret.slice('whsec_'.length), 'base64')
  const signature = createHmac('sha256', key).update(`${id}.${timestamp}.${text}`).digest('base64')
  return {
    body: text,
    headers: { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` },
  }
}

async function hint(proxy: ScriptedAgent, version: number, reason = 'version'): Promise<number> {
  const { body, headers } = signed({ fleet: 'demo', epoch: 1, version, reason })
  const url = `http://127.0.0.1:${proxy.agent.httpPort}/v1/hint`
  return (await fetch(url, { method: 'POST', body, headers })).status
}

test('a proxy says hello, applies what is offered and reports it', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, toml(5))

  await proxy.agent.start()
  await proxy.applies(1)
  const report = await until('it is reported', () => control.reports.find(({ applied }) => applied !== null))

  expect(control.askedFor('/hello')).not.toEqual([])
  expect(control.asked.every(({ headers }) => headers.authorization === 'Bearer flp_token')).toBe(true)
  expect(report).toMatchObject({
    offered: { epoch: 1, version: 1 },
    applied: { epoch: 1, version: 1 },
    error: null,
    pools: [{ pool: 'app', user: 'web', state: 'running' }],
    stats: { clients: 3, waiting: 1, servers: 3 },
  })
  expect(report.pools[0]?.hash).toBe(report.pools[0]?.desired_hash)
})

test('the engine gets addresses, both forms of the client secret and the server password', async () => {
  const { control, proxy } = await newFleet({ lookup: async () => await Promise.resolve(['10.1.1.1', '10.1.1.2']) })
  control.offer(1, toml(5, 'db.internal'))

  await proxy.agent.start()
  const { spec } = await proxy.engine.gets('apply')

  expect(spec.pools[0]).toMatchObject({
    hosts: [{ host: 'db.internal', port: 5432, role: 'primary', addresses: ['10.1.1.1', '10.1.1.2'] }],
    serverPassword: 'a secret word',
    settings: { poolSize: 5 },
  })
  expect(spec.pools[0]?.clientSecret.md5).toMatch(/^md5[0-9a-f]{32}$/)
  expect(spec.pools[0]?.clientSecret.scram?.iterations).toBe(4096)
})

test('a poll names what was last offered, and an unchanged version changes nothing', async () => {
  const { control, proxy } = await newFleet({ hintUrl: 'http://127.0.0.1:1' })
  control.pollIntervalMs = 20
  control.offer(1, toml(5))

  await proxy.agent.start()
  await proxy.applies(1)
  await until('three polls', () => control.askedFor('/manifest').length >= 3)

  const polls = control.askedFor('/manifest')
  expect(polls[0]?.headers['if-none-match']).toBeUndefined()
  expect(polls[1]?.headers['if-none-match']).toBe('"e1.v1"')
  expect(polls.every(({ headers }) => headers['prefer'] === undefined)).toBe(true)
  expect(proxy.engine.got('apply')).toHaveLength(1)
})

test('a proxy that hints cannot reach lets control hold its polls, and applies a new version at once', async () => {
  const { control, proxy } = await newFleet()
  control.parks = true
  control.pollIntervalMs = 300
  control.offer(1, toml(5))
  await proxy.agent.start()
  await until('a poll is parked', () => control.parkedCount === 1)

  const askedBefore = control.asked.length
  control.offer(2, toml(6))
  await proxy.applies(2)

  // The parked poll has told of it: bodies are fetched before there is another one.
  const asked = control.asked.slice(askedBefore).map(({ path }) => path)
  expect(asked.find((path) => /manifest|pools/.test(path))).toContain('/pools/')
  expect(control.askedFor('/manifest').at(-1)?.headers['prefer']).toBe('wait=1')
})

test('a parked poll that control ends for a reload tries again what failed, reports, and is parked again', async () => {
  let resolves = false
  const lookup = async (): Promise<string[]> => {
    if (resolves) return await Promise.resolve(['10.0.0.9'])
    throw new Error('getaddrinfo ENOTFOUND db.internal')
  }
  const { control, proxy } = await newFleet({ lookup, waits: { backoffFirstMs: 60_000, backoffMaxMs: 60_000 } })
  control.parks = true
  control.pollIntervalMs = 300
  control.offer(1, toml(5))
  await proxy.agent.start()
  await until('a poll is parked', () => control.parkedCount === 1)
  control.offer(2, toml(5, 'db.internal'))
  await until('it is refused', () => control.reports.at(-1)?.error?.code === 'unresolvable_host')
  await until('a poll is parked again', () => control.parkedCount === 1)
  control.pollIntervalMs = 60_000
  control.askParked()
  await until('a poll is parked once more', () => control.parkedCount === 1)
  const reportsBefore = control.reports.length
  resolves = true

  control.askParked()
  await proxy.applies(2)
  await until('it is reported', () => control.reports.at(-1)?.applied?.version === 2)
  await until('a poll is parked again', () => control.parkedCount === 1)
  control.askParked()
  await until('it is reported though nothing is new', () => control.reports.length >= reportsBefore + 2)

  expect(control.reports.at(-1)).toMatchObject({ applied: { version: 2 }, error: null })
  expect(control.askedFor('/manifest').length).toBeLessThan(10)
})

test('control is told where clients are served as soon as they are, whatever polls are parked', async () => {
  const { control, source, proxy } = await newFleet()
  control.parks = true
  control.offer(1, toml(5))
  await proxy.agent.start()
  await until('it is told', () => listensTold(control).at(-1) === `127.0.0.1:${proxy.agent.clientAddress?.port}`)
  await proxy.agent.stop('now')
  const again = new ScriptedAgent({ source })
  await again.agent.start()
  await again.applies(1)
  const address = `127.0.0.1:${again.agent.clientAddress?.port}`
  await until('it is told after a start from last-known-good', () => listensTold(control).includes(address))

  expect(listensTold(control).at(-1)).toBe(address)
})

test('a listener that opens while the introduction is under way is told all the same', async () => {
  const { control, source, proxy } = await newFleet()
  control.parks = true
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  await proxy.agent.stop('now')
  const held = control.hold('/hello')

  const again = new ScriptedAgent({ source })
  await again.agent.start()
  await again.applies(1)
  await until('the introduction is under way', () => held.isAsked)
  held.release()
  const address = `127.0.0.1:${again.agent.clientAddress?.port}`
  await until('another follows', () => listensTold(control).includes(address))

  expect(listensTold(control).at(-1)).toBe(address)
})

function listensTold(control: ScriptedControl): string[] {
  return control.askedFor('/hello').map(({ body }) => (JSON.parse(body) as { listen: string }).listen)
}

test('a signed hint makes the proxy poll at once', async () => {
  const { control, proxy } = await newFleet({ hintUrl: 'http://127.0.0.1:1' })
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  control.offer(2, toml(6))

  expect(await hint(proxy, 2)).toBe(202)
  await proxy.applies(2)
})

test('a proxy whose token control rejects takes no operations until control greets it again', async () => {
  const { control, proxy } = await newFleet({ hintUrl: 'http://127.0.0.1:1' })
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  const order = async (id: string): Promise<number> => {
    const { body, headers } = signed({ fleet: 'demo', operation: 'pause', pool: 'app' }, id)
    const url = `http://127.0.0.1:${proxy.agent.httpPort}/v1/order`
    return (await fetch(url, { method: 'POST', body, headers })).status
  }

  const before = await order('ord_1')
  control.next('/manifest', { status: 401, body: { title: 'unknown or revoked token' } })
  await proxy.agent.reload()
  const rejected = await order('ord_2')
  await proxy.agent.reload()
  const greeted = await order('ord_3')

  expect([before, rejected, greeted]).toEqual([200, 401, 200])
})

test('an order of the manifest reaches the engine before its version, and the end of one after it', async () => {
  const { control, proxy } = await newFleet()
  const order = { pool: 'app', version: 1, expires_at: null, reason: null }
  const first = control.offer(1, toml(5))
  const operations = { number: 1, pools: [{ ...order, operation: 'pause', number: 1 }] }
  control.offerManifest({ ...first, operations })
  await proxy.agent.start()
  await proxy.applies(1)
  const second = control.offer(2, toml(6))
  const ended = { number: 2, pools: [{ ...order, operation: 'resume', number: 2, version: 2 }] }
  control.offerManifest({ ...second, operations: ended })
  await proxy.agent.reload()
  await proxy.engine.gets('carry_out')

  const got = proxy.engine.told.flatMap((told) => ('got' in told ? [told.got] : []))
  const steps = got.flatMap((message) => {
    if (message.type === 'restore') return [`restore ${message.state.paused.join()}`]
    if (message.type === 'apply') return [`apply ${message.spec.position.version}`]
    return message.type === 'carry_out' ? message.changes.map(({ pool, on }) => `${pool} ${String(on)}`) : []
  })
  expect(steps).toEqual(['restore app', 'apply 1', 'apply 2', 'app false'])
})

async function withLastKnownGood(waits: { firstAnswerMs: number }) {
  const { control, source, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  await proxy.agent.stop('now')
  return { control, again: new ScriptedAgent({ source, waits }) }
}

test("a starting proxy waits for control's first answer, which may tell that a pool is paused", async () => {
  const { control, again } = await withLastKnownGood({ firstAnswerMs: 60_000 })
  const order = { pool: 'app', operation: 'pause', number: 1, version: 1, expires_at: null, reason: null }
  control.offerManifest({ ...control.offer(1, toml(5)), operations: { number: 1, pools: [order] } }, 'o1')
  const poll = control.hold('/manifest')

  await again.agent.start()
  await until('it polls', () => poll.isAsked)
  // Long enough for an engine to start and to get the version.
  const early = await Promise.race([again.engine.gets('apply'), new Promise((resolve) => setTimeout(resolve, 500))])
  poll.release()
  await again.engine.gets('apply')

  expect(early).toBeUndefined()
  expect(again.engine.got('restore')[0]?.state.paused).toEqual(['app'])
})

test('orders are on disk with the version that they came with, should their own file be lost', async () => {
  const { control, source, proxy } = await newFleet()
  const order = { pool: 'app', operation: 'pause', number: 1, version: 1, expires_at: null, reason: null }
  control.offerManifest({ ...control.offer(1, toml(5)), operations: { number: 1, pools: [order] } })
  await proxy.agent.start()
  await proxy.applies(1)
  await proxy.agent.stop('now')
  await rm(join(source.stateFolder, 'orders.json'))
  await control.stop()

  const again = new ScriptedAgent({ source })
  await again.agent.start()
  await again.applies(1)

  expect(again.engine.got('restore')[0]?.state.paused).toEqual(['app'])
  expect((await again.get('/readyz')).text).toContain('\npaused by the fleet: app\n')
})

test('a starting proxy whose control does not answer serves what it ran last', async () => {
  const { control, again } = await withLastKnownGood({ firstAnswerMs: 50 })
  control.next('/hello', 'be silent')

  await again.agent.start()

  expect((await again.engine.gets('apply')).spec.position.version).toBe(1)
})

test('a repeated hint asks control nothing', async () => {
  const { control, proxy } = await newFleet({ hintUrl: 'http://127.0.0.1:1' })
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  const before = control.askedFor('/manifest').length

  expect(await hint(proxy, 1)).toBe(202)
  expect(await hint(proxy, 1)).toBe(202)
  control.offer(2, toml(6))
  expect(await hint(proxy, 2)).toBe(202)
  await proxy.applies(2)
  await proxy.agent.reload()

  // One for the hint that told something new, one for the reload, which any other would have come before.
  expect(control.askedFor('/manifest').length - before).toBe(2)
})

test('a hint for a reload polls and reports even when nothing is new', async () => {
  const { control, proxy } = await newFleet({ hintUrl: 'http://127.0.0.1:1' })
  control.offer(1, toml(5))
  await proxy.agent.start()
  await until('it is reported', () => control.reports.some(({ applied }) => applied?.version === 1))
  // It introduces itself once more, with the port of its listener, and polls at once.
  await until('it polls again', () => control.askedFor('/manifest').length === 2)

  const status = await hint(proxy, 1, 'reload')
  await until('it polls because of the hint', () => control.askedFor('/manifest').length === 3)
  const polledAtMs = control.askedFor('/manifest')[2]!.atMs
  await until('it is reported again', () => control.askedFor('/reports').some(({ atMs }) => atMs > polledAtMs))

  expect(status).toBe(202)
  expect(control.askedFor('/manifest')).toHaveLength(3)
})

test('only the bodies of hashes that are not held are fetched', async () => {
  const { control, proxy } = await newFleet()
  const second = `
    [pools.other]
    servers = [{ host = "127.0.0.1" }]
    [pools.other.users.web]
    password = { secret = "web", version = 1 }
  `
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)

  control.offer(2, toml(5) + second)
  await proxy.agent.reload()

  expect(control.asked.filter(({ path }) => path.includes('/pools/'))).toHaveLength(2)
  expect(control.asked.filter(({ path }) => path.includes('/secrets/'))).toHaveLength(1)
})

test('a body that does not have the promised hash is refused, and what ran goes on', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  const manifest = control.offer(2, toml(6))
  const hash = manifest.pools[0]!.hash
  control.bodies.set(hash, { ...(control.bodies.get(hash) as object), pool_size: 600 })

  const error = await proxy.agent.reload()

  expect(error).toContain('(hash_mismatch)')
  expect(proxy.logged('version applied')).toHaveLength(1)
  const report = await until('it is reported', () => control.reports.find((one) => one.error !== null))
  expect(report).toMatchObject({
    offered: { version: 2 },
    applied: { version: 1 },
    error: { code: 'hash_mismatch', pool: 'app', user: 'web' },
    pools: [{ pool: 'app', user: 'web', state: 'failed', code: 'hash_mismatch' }],
  })
})

test('a body with a key that this proxy does not know is refused', async () => {
  const { control, proxy } = await newFleet()
  const manifest = control.offer(1, toml(5))
  const hash = manifest.pools[0]!.hash
  control.bodies.set(hash, { ...(control.bodies.get(hash) as object), tls: 'require' })

  await proxy.agent.start()
  const error = await proxy.agent.reload()

  expect(error).toContain('unknown key tls')
  expect(error).toContain('(unsupported_body)')
})

test('a version that failed is applied when the cause is gone, though control offers the same one', async () => {
  let resolves = false
  const lookup = async (): Promise<string[]> => {
    if (resolves) return await Promise.resolve(['10.0.0.9'])
    throw new Error('getaddrinfo ENOTFOUND db.internal')
  }
  const { control, proxy } = await newFleet({ lookup, waits: { backoffFirstMs: 60_000, backoffMaxMs: 60_000 } })
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  control.offer(2, toml(5, 'db.internal'))
  const refused = await proxy.agent.reload()
  resolves = true

  const error = await proxy.agent.reload()

  expect(refused).toBe(
    'pools.app.users.web: could not resolve the host db.internal: getaddrinfo ENOTFOUND db.internal (unresolvable_host)',
  )
  expect(error).toBeNull()
  expect(proxy.agent.clientAddress).toBeDefined()
  expect(proxy.engine.got('apply').at(-1)?.spec.position.version).toBe(2)
  expect(control.askedFor('/manifest').at(-1)?.headers['if-none-match']).toBe('"e1.v2"')
})

test('a version whose cause of failure may pass is tried again by itself', async () => {
  let attempts = 0
  let pollsBefore = 0
  const lookup = async (): Promise<string[]> => {
    attempts += 1
    pollsBefore = control.askedFor('/manifest').length
    return attempts < 3 ? await Promise.reject(new Error('not now')) : await Promise.resolve(['10.0.0.9'])
  }
  const { control, proxy } = await newFleet({ lookup })
  control.offer(1, toml(5, 'db.internal'))

  await proxy.agent.start()
  await proxy.applies(1)

  expect(attempts).toBe(3)
  expect(pollsBefore).toBe(1)
})

test('a version that names a missing environment variable is refused with pool, user and variable', async () => {
  const { control, proxy } = await newFleet({ environment: {} })
  control.offer(1, toml(5, '127.0.0.1', '{ env = "WEB_PASSWORD" }'))
  await proxy.agent.start()

  const report = await until('it is reported', () => control.reports.find((one) => one.error !== null))

  expect(report.error).toEqual({
    code: 'missing_environment_variable',
    message: 'the environment variable WEB_PASSWORD is not set',
    pool: 'app',
    user: 'web',
  })
})

test('112: a version below the running one is never applied', async () => {
  const { control, proxy } = await newFleet()
  control.offer(7, toml(5))
  await proxy.agent.start()
  await proxy.applies(7)
  control.offer(6, toml(6))

  const error = await proxy.agent.reload()

  expect(error).toContain('(older_position)')
  // Not even looked at: the engine would refuse it too, but only after everything was prepared.
  expect(control.asked.filter(({ path }) => path.includes('/pools/'))).toHaveLength(1)
  expect(proxy.logged('version applied')).toHaveLength(1)
})

test('a lower version of a higher epoch is applied', async () => {
  const { control, proxy } = await newFleet()
  control.offer(7, toml(5), 1)
  await proxy.agent.start()
  await proxy.applies(7)
  control.offer(6, toml(6), 2)

  expect(await proxy.agent.reload()).toBeNull()
  expect(proxy.engine.got('apply').at(-1)?.spec.position).toEqual({ epoch: 2, version: 6 })
})

test('a configuration without pools does not replace a working one', async () => {
  const { control, proxy } = await newFleet()
  const manifest = control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  control.offerManifest({ ...manifest, version: 2, pools: [] })

  expect(await proxy.agent.reload()).toContain('(empty_configuration)')
  expect((await proxy.get('/readyz')).status).toBe(200)
})

test('114: a proxy restarted while control is down serves from its last-known-good, secrets and all', async () => {
  const { control, source, proxy } = await newFleet({ lookup: async () => await Promise.resolve(['10.0.0.9']) })
  control.secrets.set('former@1', 'a former word')
  const rotated =
    '$&\nprevious_password = { secret = "former", version = 1 }\nprevious_password_until = 2030-01-01T00:00:00Z'
  control.offer(4, toml(5, 'db.internal').replace(/^ *password = .*$/m, rotated))
  await proxy.agent.start()
  await proxy.applies(4)
  await until('it is kept', () => proxy.agent.notReady === null)
  await proxy.agent.stop('now')
  await control.stop()

  const again = new ScriptedAgent({ source })
  await again.agent.start()
  const { spec } = await again.engine.gets('apply')
  await again.applies(4)

  expect(spec.pools[0]).toMatchObject({ serverPassword: 'a secret word', hosts: [{ addresses: ['10.0.0.9'] }] })
  const { scram, previous } = spec.pools[0]?.clientSecret ?? {}
  expect(previous).toMatchObject({ untilMs: Date.UTC(2030, 0, 1), scram: { salt: scram?.salt } })
  expect((await again.get('/readyz')).status).toBe(200)
})

test('after such a start control is polled with what is running, and a newer version is applied when it is back', async () => {
  const { control, source, proxy } = await newFleet()
  control.offer(4, toml(5))
  await proxy.agent.start()
  await proxy.applies(4)
  await proxy.agent.stop('now')
  await control.stop()
  const again = new ScriptedAgent({ source })
  await again.agent.start()
  await again.applies(4)

  control.asked.length = 0
  await control.start()
  await until('control is polled', () => control.askedFor('/manifest').length > 0)
  control.offer(5, toml(6))
  await again.agent.reload()
  await again.applies(5)

  expect(control.askedFor('/manifest')[0]?.headers['if-none-match']).toBe('"e1.v4"')
})

test('a damaged last-known-good is warned about once and passed over', async () => {
  const { control, source, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  await proxy.agent.stop('now')
  await writeFile(join(source.stateFolder, 'last-known-good.json'), '{"format":1,"fleet":"demo"')

  const again = new ScriptedAgent({ source })
  await again.agent.start()
  await again.applies(1)

  expect(again.log.filter(({ level }) => level === 'warn').map(({ message }) => message)).toEqual([
    'a file in the state directory is damaged; continuing without it',
  ])
})

test('no secret stands in clear on disk or in the log', async () => {
  const { control, source, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  await proxy.agent.stop('now')

  const kept = await readFile(join(source.stateFolder, 'last-known-good.json'), 'utf8')

  expect(kept).toContain('web@1')
  expect(kept + JSON.stringify(proxy.log)).not.toContain('a secret word')
  expect(kept + JSON.stringify(proxy.log)).not.toContain('flp_token')
})

test('a second process cannot use the same state folder', async () => {
  const { source, proxy } = await newFleet()
  await proxy.agent.start()

  await expect(new ScriptedAgent({ source }).agent.start()).rejects.toThrow('is in use by another proxy')
})

test('a version that killed the engine once is tried once more by itself, and then only after a reload', async () => {
  const { control, proxy } = await newFleet({ waits: { backoffFirstMs: 5, backoffMaxMs: 5 } })
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  await proxy.engine.obeys({ do: 'throw at the next apply' })
  control.offer(2, toml(6))

  const error = await proxy.agent.reload()
  await proxy.applies(2)

  expect(error).toContain('the engine died: this version is deadly (engine_died)')
  expect(control.askedFor('/manifest')).toHaveLength(2)
})

test('a hint URL that control refuses is logged with the reason and does not keep new versions away', async () => {
  const { control, proxy } = await newFleet({ hintUrl: 'http://169.254.0.1' })
  control.offer(1, toml(5))
  const errors = [{ path: 'hint_url', message: '169.254.0.1 is a link-local address' }]
  control.next('/hello', { status: 422, body: { title: 'Invalid content', detail: 'not there', errors } })

  await proxy.agent.start()
  await proxy.applies(1)

  const [logged, ...more] = proxy.logged('control rejected hello; continuing without hints')
  expect(logged?.fields['reason']).toMatch(/ 422 Invalid content: not there; hint_url 169\.254\.0\.1 is /)
  expect(more).toEqual([])
})

test('a fleet without a version is polled again after the poll interval', async () => {
  const { control, proxy } = await newFleet({ waits: { backoffFirstMs: 60_000, backoffMaxMs: 60_000 } })
  control.pollIntervalMs = 20

  await proxy.agent.start()
  await until('it was polled', () => control.askedFor('/manifest').length > 2)
  control.offer(1, toml(5))

  await proxy.applies(1)
  expect(proxy.agent.notReady).toBeNull()
})

test('a refused token leaves the pools running, and polls become slow', async () => {
  const { control, proxy } = await newFleet({ hintUrl: 'http://127.0.0.1:1' })
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  control.next('/manifest', { status: 401, body: { title: 'Unauthorized' } })

  const error = await proxy.agent.reload()

  expect(error).toBe('GET manifest failed: 401 Unauthorized')
  expect((await proxy.get('/readyz')).status).toBe(200)
  expect(await proxy.agent.reload()).toBeNull()
})

test('Retry-After is obeyed before any backoff of our own', async () => {
  const { control, proxy } = await newFleet({ waits: { backoffFirstMs: 1, backoffMaxMs: 1 } })
  control.offer(1, toml(5))
  control.next('/hello', { status: 503, headers: { 'retry-after': '1' } })

  await proxy.agent.start()
  await proxy.applies(1)

  const [first, second] = control.askedFor('/hello')
  expect(second!.atMs - first!.atMs).toBeGreaterThan(950)
})

test('attempts to reach a control that is away come at growing distances', async () => {
  const { control, proxy } = await newFleet({ waits: { backoffFirstMs: 40, backoffMaxMs: 160 } })
  for (let i = 0; i < 5; i += 1) control.next('/hello', 'hang up')

  await proxy.agent.start()
  await until('six attempts', () => control.askedFor('/hello').length >= 6)

  const times = control.askedFor('/hello').map(({ atMs }) => atMs)
  const gaps = times.slice(1).map((time, index) => time - times[index]!)
  expect(gaps[0]).toBeGreaterThan(35)
  expect(gaps[1]).toBeGreaterThan(75)
  expect(gaps[2]).toBeGreaterThan(150)
  expect(proxy.logged('control is unreachable; the running version stays')).toHaveLength(1)
})

test('a lost server becomes an event that control gets once, a planned end does not', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)

  proxy.engine.instruct({ do: 'say', message: { type: 'disconnect', disconnect: { ...lostServer, cause: 'idle' } } })
  proxy.engine.instruct({ do: 'say', message: { type: 'disconnect', disconnect: lostServer } })
  const report = await until('it is reported', () => control.reports.find(({ events }) => events.length > 0))
  await proxy.agent.stop('now')

  expect(report.events).toHaveLength(1)
  expect(report.events[0]).toMatchObject({ host: '10.0.0.1', cause: 'keepalive_timeout', backend_pid: 42 })
  expect(control.reports.flatMap(({ events }) => events)).toHaveLength(1)
})

test('salts are made by the key that control has for the fleet, also after a restart without control', async () => {
  const { control, source, proxy } = await newFleet()
  const sameFleet = { ...source, proxyId: 'two', stateFolder: join(await tempFolder(), 'state') }
  const second = new ScriptedAgent({ source: sameFleet })
  control.offer(1, toml(5))
  const saltFor = async ({ engine }: ScriptedAgent): Promise<string> => {
    const { spec } = await engine.gets('apply')
    return Buffer.from(spec.pools[0]?.clientSecret.scram?.salt ?? []).toString('hex')
  }

  await proxy.agent.start()
  await second.agent.start()
  const salts = [await saltFor(proxy), await saltFor(second)]
  await proxy.applies(1)
  await proxy.agent.stop('now')
  await control.stop()
  const restarted = new ScriptedAgent({ source })
  await restarted.agent.start()
  salts.push(await saltFor(restarted))

  const wanted = Buffer.from(mockSalt(Buffer.alloc(32, 5), 'web', 16)).toString('hex')
  expect(salts).toEqual([wanted, wanted, wanted])
})

test('a proxy whose control has no key for the fleet keeps one of its own', async () => {
  const { control, source, proxy } = await newFleet()
  control.mockKey = undefined
  control.offer(1, toml(5))

  await proxy.agent.start()
  const first = await proxy.engine.gets('apply')
  await proxy.applies(1)
  await proxy.agent.stop('now')
  const restarted = new ScriptedAgent({ source })
  await restarted.agent.start()
  const again = await restarted.engine.gets('apply')

  expect(again.spec.pools[0]?.clientSecret.scram?.salt).toEqual(first.spec.pools[0]?.clientSecret.scram?.salt)
})

test('events of a control outage arrive after it, also over a restart of the proxy', async () => {
  const { control, source, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  await control.stop()
  proxy.engine.instruct({ do: 'say', message: { type: 'disconnect', disconnect: lostServer } })
  await until('it is noticed', () => proxy.logged('server connection lost').length === 1)
  await proxy.agent.stop('now')

  const again = new ScriptedAgent({ source })
  await again.agent.start()
  await again.applies(1)
  await control.start()
  const report = await until('it is reported', () => control.reports.find(({ events }) => events.length > 0))

  expect(report.events).toHaveLength(1)
  await again.agent.stop('now')
  expect(await readFile(join(source.stateFolder, 'outbox.log'), 'utf8')).toBe('')
})

test('RELOAD on the console polls and is answered with the error, if there is one', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  control.offer(2, toml(5, 'db.internal'))

  proxy.engine.instruct({ do: 'say', message: { type: 'reload', id: 17 } })
  const answer = await proxy.engine.gets('reloaded')

  expect(answer.id).toBe(17)
  expect(answer.error).toContain('pools.app.users.web: could not resolve the host db.internal')
})

test('the engine is told what is desired and why it does not run', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  const manifest = control.offer(2, toml(5, 'db.internal'))
  await proxy.agent.reload()

  const { desired } = await proxy.engine.gets('desired', (message) => message.desired.error !== null)

  expect(desired.position).toEqual({ epoch: 1, version: 2 })
  expect(desired.pools[0]?.hash).toBe(manifest.pools[0]?.hash)
  expect(desired.error).toMatchObject({ code: 'unresolvable_host', pool: 'app', user: 'web' })
})

test('the death of the engine is reported, and readiness follows it', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)

  proxy.engine.instruct({ do: 'throw', message: 'a bug of the engine' })
  await until('not ready', () => proxy.agent.notReady === 'the engine is restarting')
  const report = await until('it is reported', () => control.reports.find((one) => one.engine_restarts.length > 0))
  await until('ready again', () => proxy.agent.notReady === null)

  expect(report.engine_restarts[0]?.reason).toBe('a bug of the engine')
})

test('a drain is told to the engine with the configured timeout, and readiness ends at once', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, `[general]\nshutdown_timeout = "7s"\n${toml(5)}`)
  await proxy.agent.start()
  await proxy.applies(1)

  const stopped = proxy.agent.stop('drain')
  const { status } = await proxy.get('/readyz').catch(() => ({ status: 0 }))
  await stopped

  expect(status === 503 || status === 0).toBe(true)
  expect(proxy.engine.got('stop')[0]).toMatchObject({ mode: 'drain', timeoutMs: 7000 })
  expect(await proxy.agent.ended).toBeNull()
})

test('a control that does not answer the last report holds up the end, but not for as long as it has to answer', async () => {
  const { control, proxy } = await newFleet({ waits: { requestTimeoutMs: 60_000 } })
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  control.next('/reports', 'be silent')
  proxy.engine.instruct({ do: 'say', message: { type: 'disconnect', disconnect: lostServer } })
  await until('the report is sent', () => control.askedFor('/reports').length > control.reports.length)

  // Control would have a minute.
  await proxy.agent.stop('drain')

  expect(await proxy.agent.ended).toBeNull()
})

test('a proxy that is stopped while it prepares its first version ends as asked', async () => {
  const asked = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<string[]>()
  const lookup = async (): Promise<string[]> => {
    asked.resolve()
    return await answer.promise
  }
  const { control, proxy } = await newFleet({ lookup })
  control.offer(1, toml(5, 'db.internal'))
  await proxy.agent.start()
  await asked.promise

  const stopped = proxy.agent.stop('drain')
  answer.resolve(['10.0.0.1'])
  await stopped

  expect(await proxy.agent.ended).toBeNull()
  expect(proxy.engine.got('apply')).toEqual([])
})

test('a control that answers nothing is given up after the time allowed, and asked again', async () => {
  const { control, proxy } = await newFleet({ waits: { requestTimeoutMs: 1000 } })
  control.offer(1, toml(5))
  control.next('/manifest', 'be silent')

  await proxy.agent.start()
  await proxy.applies(1)

  expect(proxy.logged('control is unreachable; the running version stays')[0]?.fields['reason']).toBe(
    'GET manifest: no response within 1000 ms',
  )
})

test('112: an answer that is not what the API promises changes nothing', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  control.next('/manifest', { status: 200, body: { epoch: 1, version: 2, pools: 'all' } })

  const error = await proxy.agent.reload()

  expect(error).toContain('the response violates the API: pools: ')
  expect(proxy.agent.notReady).toBeNull()
  expect(await proxy.agent.reload()).toBeNull()
})

test('a listener that the configuration changes is reported as needing a restart', async () => {
  const port = enginePort()
  const { control, proxy } = await newFleet({ listenPort: port })
  control.offer(1, `[general]\nlisten_host = "127.0.0.1"\nlisten_port = ${port}\n${toml(5)}`)
  await proxy.agent.start()
  await proxy.applies(1)
  control.offer(2, `[general]\nlisten_host = "127.0.0.1"\nlisten_port = 7777\n${toml(5)}`)
  await proxy.agent.reload()

  const report = await until('it is reported', () => control.reports.find(({ applied }) => applied?.version === 2))

  expect(report.needs_restart).toEqual(['listen_port'])
  expect(proxy.agent.clientAddress).toEqual({ host: '127.0.0.1', port })
})

test('a listener given on the command line needs no restart when the configuration changes it', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  control.offer(2, `[general]\nlisten_port = 7777\n${toml(5)}`)
  await proxy.agent.reload()

  const report = await until('it is reported', () => control.reports.find(({ applied }) => applied?.version === 2))

  expect(report.needs_restart).toEqual([])
})

test('metrics carry the names of pgbouncer_exporter and our own', async () => {
  const { control, proxy } = await newFleet()
  control.offer(3, toml(5))
  await proxy.agent.start()
  await proxy.applies(3)
  proxy.engine.instruct({ do: 'say', message: { type: 'disconnect', disconnect: lostServer } })
  await until('it is noticed', () => proxy.logged('server connection lost').length === 1)

  const { text } = await proxy.get('/metrics')

  const lines = text.split('\n')
  expect(lines).toContain('pgbouncer_pools_client_active_connections{database="app",user="web"} 3')
  expect(lines).toContain('pgbouncer_pools_client_maxwait_seconds{database="app",user="web"} 1')
  expect(lines).toContain('flotilla_client_maxwait_seconds{database="app",user="web"} 1.5')
  expect(lines).toContain('flotilla_auth_query_connections{database="postgres",user="asker",state="active"} 2')
  expect(lines).toContain('flotilla_auth_query_waiting{database="postgres",user="asker"} 3')
  expect(lines).toContain(
    'pgbouncer_databases_pool_size{name="app",host="db",port="5432",database="app",force_user="",pool_mode=""} 5',
  )
  expect(lines).toContain('pgbouncer_stats_totals_server_in_transaction_seconds_total{database="app"} 2')
  expect(lines).toContain('flotilla_config_version 3')
  expect(lines.find((line) => line.startsWith('flotilla_config_age_seconds '))).toMatch(/ 0\.\d+$|e-\d+$/)
  expect(lines).toContain('flotilla_clients{database="app",user="web",state="waiting"} 1')
  expect(lines).toContain('flotilla_servers_pinned{database="app",user="web"} 1')
  expect(lines).toContain('flotilla_server_errors_total{database="app",user="web",class="42"} 4')
  expect(lines).toContain('flotilla_clients_refused_total{database="app",user="web",sqlstate="53300"} 1')
  expect(lines).toContain('flotilla_engine_restarts_total 0')
  expect(lines).toContain(
    'flotilla_disconnects_total{database="app",user="web",host="10.0.0.1",port="5432",cause="keepalive_timeout"} 1',
  )
  expect(lines).toContain('flotilla_servers_closed_total{database="app",user="web",cause="idle"} 3')
  expect(text).toContain('process_resident_memory_bytes')
})

test('the histogram of waits for a server counts those that had not to wait in every bucket', async () => {
  const { control, proxy } = await newFleet()
  control.offer(3, toml(5))
  await proxy.agent.start()
  await proxy.applies(3)

  const { text } = await proxy.get('/metrics')

  // The scripted engine gave away 20 servers: 7 at once, one in each class, and two after more than a minute.
  const values = text
    .split('\n')
    .flatMap((line) => /^flotilla_checkout_wait_seconds(\S+) (.*)$/.exec(line)?.slice(1, 3) ?? [])
  expect(Object.groupBy(values, (_, i) => (i % 2 === 0 ? 'keys' : 'values'))).toEqual({
    keys: [
      ...['0', '0.001', '0.005', '0.01', '0.05', '0.1', '0.5', '1', '5', '10', '30', '60', '+Inf'].map(
        (le) => `_bucket{database="app",user="web",le="${le}"}`,
      ),
      '_sum{database="app",user="web"}',
      '_count{database="app",user="web"}',
    ],
    values: ['7', '8', '9', '10', '11', '12', '13', '14', '15', '16', '17', '18', '20', '3', '20'],
  })
  expect(text).toContain('# TYPE flotilla_checkout_wait_seconds histogram')
})

test('a proxy that has nothing to serve yet is alive and not ready', async () => {
  const { proxy } = await newFleet()

  await proxy.agent.start()

  expect(await proxy.get('/livez')).toEqual({ status: 200, text: 'alive\n' })
  expect(await proxy.get('/readyz')).toEqual({ status: 503, text: 'no configuration has been applied yet\n' })
})

/** A proxy that runs version 1, and whose engine tries version 2 for as long as the test wants. */
async function trying(pollIntervalMs = 60_000) {
  const { control, proxy } = await newFleet({
    hintUrl: 'http://127.0.0.1:1',
    waits: { backoffFirstMs: 60_000, backoffMaxMs: 60_000 },
  })
  control.pollIntervalMs = pollIntervalMs
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)
  await proxy.engine.obeys({ do: 'hold preflights' })
  control.offer(2, toml(6))
  const reload = proxy.agent.reload()
  const { id, rule, spec } = await proxy.engine.gets('preflight')
  return { control, proxy, reload, id, rule, version: spec.position.version }
}

const nothingFound = { refused: [], failing: [], unknown: [], attempts: 1 }

test('a version is tried before it is applied, and refused with pool and reason if a pool would not serve', async () => {
  const { control, proxy, reload, id, rule, version } = await trying()
  const refused = [
    { database: 'app', user: 'web', message: 'a login failed: auth_failed' },
    { database: 'other', user: 'web', message: 'a login failed: connect_refused' },
  ]

  await proxy.engine.obeys({ do: 'say', message: { type: 'preflighted', id, outcome: { ...nothingFound, refused } } })
  const error = await reload
  const report = await until('it is reported', () => control.reports.find((one) => one.error !== null))

  expect([rule, version]).toEqual(['guard', 2])
  expect(error).toBe('pools.app.users.web: a login failed: auth_failed; and 1 more pools (cannot_serve)')
  expect(report).toMatchObject({ applied: { version: 1 }, error: { code: 'cannot_serve', pool: 'app', user: 'web' } })
  expect(proxy.engine.got('apply').map(({ spec }) => spec.position.version)).toEqual([1])
  expect(proxy.engine.got('preflight_over')).toHaveLength(1)
})

test('a version that serves is applied after it was tried', async () => {
  const { proxy, reload, id } = await trying()

  await proxy.engine.obeys({ do: 'say', message: { type: 'preflighted', id, outcome: nothingFound } })

  expect(await reload).toBeNull()
  expect(proxy.engine.got('apply').map(({ spec }) => spec.position.version)).toEqual([1, 2])
})

test('polls go on while a version is tried, and a newer one takes its place at once', async () => {
  const { control, proxy, reload } = await trying(20)
  const polls = control.askedFor('/manifest').length
  await until('three more polls', () => control.askedFor('/manifest').length >= polls + 3)

  control.offer(3, toml(5))
  const superseded = await reload
  await proxy.applies(3)

  expect(superseded).toContain('(superseded)')
  expect(proxy.engine.got('apply').map(({ spec }) => spec.position.version)).toEqual([1, 3])
})

test('a version that changes no pool is applied without being tried', async () => {
  const { control, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await proxy.applies(1)

  control.offer(2, `general = { poll_interval = "9s" }\n${toml(5)}`)
  await proxy.agent.reload()

  expect(proxy.engine.got('apply')).toHaveLength(2)
  expect(proxy.engine.got('preflight')).toEqual([])
})

test('the rule of the version that runs decides how the next one is tried', async () => {
  const { control, proxy } = await newFleet()
  const withRule = (rule: string, poolSize: number): string => `general = { preflight = "${rule}" }\n${toml(poolSize)}`
  for (const [version, rule] of ['require', 'off', 'guard', 'guard'].entries()) {
    control.offer(version + 1, withRule(rule, version + 1))
    if (version === 0) {
      await proxy.agent.start()
      await proxy.applies(1)
    } else await proxy.agent.reload()
  }

  expect(proxy.engine.got('preflight').map(({ rule, spec }) => [spec.position.version, rule])).toEqual([
    [2, 'require'],
    [4, 'guard'],
  ])
})

const twoPools = (poolSize: number): string => `${toml(poolSize)}
  [pools.other]
  servers = [{ host = "db.internal", port = 5432 }]
  [pools.other.users.web]
  password = { secret = "web", version = 1 }
`

test('a proxy that starts serves the pools that it can prepare, and the others as soon as it can', async () => {
  let resolves = false
  const lookup = async (): Promise<string[]> =>
    resolves ? await Promise.resolve(['10.0.0.9']) : await Promise.reject(new Error('getaddrinfo ENOTFOUND'))
  const { control, proxy } = await newFleet({ lookup })
  control.offer(1, twoPools(5))

  await proxy.agent.start()
  const { spec } = await proxy.engine.gets('apply')
  const report = await until('it is reported', () => control.reports.find(({ error }) => error !== null))
  resolves = true
  const whole = await proxy.engine.gets('apply', (message) => message.spec.pools.length === 2)

  expect(spec.pools.map(({ database }) => database)).toEqual(['app'])
  expect(report).toMatchObject({
    applied: { version: 1 },
    error: { code: 'unresolvable_host', pool: 'other' },
    pools: [
      { pool: 'app', state: 'running', code: null },
      { pool: 'other', hash: null, state: 'failed', code: 'unresolvable_host' },
    ],
  })
  expect(whole).toMatchObject({ force: true, spec: { position: { version: 1 } } })
  expect(whole.spec.unprepared).toBeUndefined()
  await until('it is reported', () => control.reports.find((one) => one.seq > report.seq && one.error === null))
})

test('while a pool is missing, a version that would take away another is refused, and one that mends more is applied', async () => {
  const hosts = new Set<string>()
  const lookup = async (host: string): Promise<string[]> =>
    hosts.has(host) ? await Promise.resolve(['10.0.0.9']) : await Promise.reject(new Error('getaddrinfo ENOTFOUND'))
  const { control, proxy } = await newFleet({ lookup, waits: { backoffFirstMs: 60_000, backoffMaxMs: 60_000 } })
  control.offer(1, twoPools(5))
  await proxy.agent.start()
  await proxy.engine.gets('apply')

  control.offer(2, twoPools(5).replace('127.0.0.1', 'gone.internal'))
  const refused = await proxy.agent.reload()
  control.offer(3, twoPools(6))
  const lacking = await proxy.agent.reload()
  await proxy.engine.gets('apply', ({ spec }) => spec.position.version === 3)

  expect(refused).toContain('pools.app.users.web: could not resolve the host gone.internal')
  expect(lacking).toContain('pools.other.users.web: could not resolve the host db.internal')
  expect(proxy.engine.got('apply').map(({ spec }) => [spec.position.version, spec.pools.length])).toEqual([
    [1, 1],
    [3, 1],
  ])
})

test.for([
  [3_600_000, 'ahead of'],
  [-3_600_000, 'behind'],
] as const)('a clock that is off by %i ms, more than signatures tolerate, is reported', async ([aheadMs, where]) => {
  const { control, proxy } = await newFleet({ aheadMs })
  control.offer(1, toml(5))

  await proxy.agent.start()
  await until('it is reported', () => (control.reports.at(-1)?.problems?.length ?? 0) > 0)

  expect(control.reports.at(-1)?.problems).toMatchObject([
    { code: 'clock_differs', message: `the clock is more than 300 s ${where} control's, so hints are refused` },
  ])
})

test('a process says at its hello which one had the state directory before it', async () => {
  const { control, source, proxy } = await newFleet()
  control.offer(1, toml(5))
  await proxy.agent.start()
  await until('it is reported', () => control.reports.some(({ applied }) => applied?.version === 1))
  await proxy.agent.stop('now')
  const hellos = () => control.askedFor('/hello').map(({ body }) => JSON.parse(body) as Record<string, unknown>)
  const [first] = hellos()
  const before = hellos().length

  const next = new ScriptedAgent({ source })
  await next.agent.start()
  await until('it says hello', () => hellos().length > before)

  const { boot } = first as { boot: string }
  expect(first).not.toHaveProperty('takes_over_from')
  expect(hellos()[before]).toMatchObject({ takes_over_from: boot })
  expect(control.asked.filter(({ headers }) => headers['flotilla-boot'] === boot).length).toBeGreaterThan(1)
})
