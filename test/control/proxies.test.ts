import { expect, test } from 'vitest'
import type { Fleet, Proxy, ProxyDetail } from '../../shared/api.ts'
import type { Report } from '../../shared/wire.ts'
import { raiseEpoch } from '../../control/store/control-row.ts'
import { document, inProcessControl, lost, report, runningPools } from './in-process.ts'
import type { InProcessControl, InProcessOptions } from './in-process.ts'

const hello = { boot: 'boot-1', agent_version: '0.1.0', listen: '127.0.0.1:6432', region: 'fra' }

/** Fleet `demo` at version 1 and proxy `p1` that has said hello. */
async function withProxy(how: InProcessOptions = {}): Promise<{ control: InProcessControl; token: string }> {
  const control = await inProcessControl(how)
  const token = await control.fleet()
  await control.apply(document())
  await sayHello(control, token)
  return { control, token }
}

async function sayHello(control: InProcessControl, token: string, over: object = {}) {
  return await control.call('POST', '/v1/fleets/demo/proxies/p1/hello', { token, body: { ...hello, ...over } })
}

/** With the pools of the version that it runs, unless it says otherwise. */
async function send(control: InProcessControl, token: string, given: Report) {
  const { applied } = given
  const isSilent = given.pools.length === 0 && given.base === undefined && applied !== null
  const body = isSilent ? { ...given, pools: await runningPools(control, applied.version) } : given
  return await control.call('POST', '/v1/fleets/demo/proxies/p1/reports', { token, body })
}

async function p1(control: InProcessControl): Promise<Proxy> {
  return (await control.call<Proxy>('GET', '/v1/fleets/demo/proxies/p1')).body
}

test('hello tells epoch, poll interval and a secret that is this boot’s own', async () => {
  const { control, token } = await withProxy()
  await control.apply({ general: { poll_interval: '250ms' }, ...document() })

  const first = await sayHello(control, token)
  const again = await sayHello(control, token)
  const restarted = await sayHello(control, token, { boot: 'boot-2' })

  expect(first.body).toEqual({
    epoch: 1,
    poll_interval_ms: 250,
    report_interval_ms: 1500,
    body_format: 1,
    hint_secret: expect.stringMatching(/^whsec_[\w+/]{43}=$/),
    mock_key: expect.stringMatching(/^[\w+/]{43}=$/),
  })
  expect(again.body).toEqual(first.body)
  expect(restarted.body).not.toEqual(first.body)
  // What users are made up by that do not exist is the fleet's, and stays.
  expect(restarted.body).toMatchObject({ mock_key: (first.body as { mock_key: string }).mock_key })
})

test('a hint URL that is no plain web address is refused', async () => {
  const { control, token } = await withProxy()

  const urls = ['ftp://x', 'http://user:pw@x', 'http://x?a=1', 'http://x#a', 'nothing', 'javascript:alert(1)']
  const answers = await Promise.all(urls.map((hint_url) => sayHello(control, token, { hint_url })))

  expect(answers.map(({ status, body }) => [status, (body as { errors: { path: string }[] }).errors[0]!.path])).toEqual(
    urls.map(() => [422, 'hint_url']),
  )
})

test.for([
  ['http://169.254.169.254', '169.254.169.254 is a link-local address'],
  ['http://0xa9fea9fe/', '169.254.169.254 is a link-local address'],
  ['http://2852039166/', '169.254.169.254 is a link-local address'],
  ['http://0251.0376.43518/', '169.254.169.254 is a link-local address'],
  ['http://[fe80::1]:9930', 'fe80::1 is a link-local address'],
  ['http://[::ffff:169.254.169.254]', '::ffff:a9fe:a9fe is a link-local address'],
  ['http://[64:ff9b::a9fe:a9fe]', '64:ff9b::a9fe:a9fe is a link-local address'],
  ['http://[2002:a9fe:a9fe::1]', '2002:a9fe:a9fe::1 is a link-local address'],
  ['http://[fd00:ec2::254]', 'fd00:ec2::254 is a local service of AWS'],
  ['http://0.0.0.0:9930', '0.0.0.0 is an unspecified address'],
  ['http://[::]:9930', ':: is an unspecified address'],
  ['http://METADATA.google.internal./', 'metadata.google.internal is a metadata service'],
  ['http://10.0.0.7:22', 'must not have port 22, of those below 1024 only 80 and 443'],
] as const)('a proxy at %s is refused and told why', async ([hint_url, message]) => {
  const { control, token } = await withProxy()

  const { status, body } = await sayHello(control, token, { hint_url })

  expect([status, body]).toEqual([422, expect.objectContaining({ errors: [{ path: 'hint_url', message }] })])
})

test.for([
  'http://127.0.0.1:9930',
  'http://[::1]:9930',
  'http://localhost:9930',
  'http://10.0.0.7:9930',
  'http://172.16.0.1',
  'http://192.168.1.1',
  'http://[fdaa:0:1::2]:9930',
  'http://3d8d9930.vm.flotilla.internal:9930',
  'https://proxies.example.com/one',
])('a proxy at %s is accepted', async (hint_url) => {
  const { control, token } = await withProxy()

  expect((await sayHello(control, token, { hint_url })).status).toBe(200)
})

test('where the operator allows some networks, a proxy elsewhere is refused', async () => {
  const { control, token } = await withProxy({ proxyNetworks: ['10.0.0.0/8', 'fdaa::/16'] })

  const urls = ['http://10.1.2.3', 'http://[fdaa::1]', 'http://[::ffff:10.1.2.3]', 'http://127.0.0.1', 'http://[::1]']
  const answers = await Promise.all(urls.map((hint_url) => sayHello(control, token, { hint_url })))

  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 422, 422])
})

test('a peer at a forbidden address is refused, whatever networks are allowed', async () => {
  const { control, token } = await withProxy({ proxyNetworks: ['10.0.0.0/8'] })
  const peer = (host: string) => sayHello(control, token, { peer: { host, port: 6432 } })

  const answers = await Promise.all(['2852039166', 'fe80::1%eth0', '127.0.0.1', 'proxy.internal'].map(peer))

  expect(answers.map(({ status }) => status)).toEqual([422, 422, 200, 200])
  expect(answers[1]!.body).toMatchObject({
    errors: [{ path: 'peer.host', message: 'fe80::1%eth0 is a link-local address' }],
  })
})

test('a proxy goes from behind over applying to in_sync', async () => {
  const { control, token } = await withProxy()
  const states = [(await p1(control)).state]
  const one = { epoch: 1, version: 1 }

  await send(control, token, report(1, { seq: 1, offered: one, applied: null }))
  states.push((await p1(control)).state)
  await send(control, token, report(1, { seq: 2 }))
  states.push((await p1(control)).state)
  await control.apply(document({ pool_size: 2 }))
  states.push((await p1(control)).state)
  await send(control, token, report(2, { seq: 3, applied: one }))
  states.push((await p1(control)).state)
  await send(control, token, report(2, { seq: 4 }))
  states.push((await p1(control)).state)

  expect(states).toEqual(['behind', 'applying', 'in_sync', 'behind', 'applying', 'in_sync'])
})

test('a proxy that cannot take a version is failed, with the reason, until the next version', async () => {
  const { control, token } = await withProxy()
  const error = { code: 'unresolvable_host', message: 'db is not known', pool: 'app', user: 'web' }

  await send(control, token, report(1, { applied: null, error }))
  const failed = await p1(control)
  await control.apply(document({ pool_size: 2 }))

  expect(failed).toMatchObject({ state: 'failed', error, offered: { version: 1 }, applied: null })
  expect((await p1(control)).state).toBe('behind')
})

test('the same version of a lower epoch is behind', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1))

  await raiseEpoch(control.host.store, { from: 1, to: 2 })

  expect(await p1(control)).toMatchObject({ state: 'behind', applied: { epoch: 1, version: 1 } })
})

test('a proxy is offline when it missed three polls and ten seconds, and polls alone bring it back', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1))
  const states: string[] = []

  control.clock.nowMs += 25_000
  states.push((await p1(control)).state)
  control.clock.nowMs += 1
  states.push((await p1(control)).state)
  await control.call('GET', '/v1/fleets/demo/manifest', { token, headers: { 'flotilla-proxy': 'p1' } })
  states.push((await p1(control)).state)

  expect(states).toEqual(['in_sync', 'offline', 'in_sync'])
})

test('a fleet counts its proxies by state', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1))

  const { body } = await control.call<Fleet>('GET', '/v1/fleets/demo')

  expect(body).toMatchObject({ version: 1 })
  expect(body.proxies).toEqual({ in_sync: 1, applying: 0, failed: 0, behind: 0, offline: 0 })
  expect((await control.call<{ fleets: Fleet[] }>('GET', '/v1/fleets')).body.fleets).toEqual([body])
})

test('a report shows all it says: pools, what needs a restart, engine restarts, numbers', async () => {
  const { control, token } = await withProxy()
  const said = report(1, {
    needs_restart: ['listen_port'],
    dropped_events: 3,
    engine_restarts: [{ at: '2026-11-23T18:00:00Z', reason: 'out of memory' }],
    stats: { clients: 5, waiting: 1, servers: 2 },
    pools: [
      {
        pool: 'app',
        user: 'web',
        hash: 'a'.repeat(64),
        desired_hash: 'b'.repeat(64),
        state: 'draining',
        draining_servers: 2,
        code: null,
        message: null,
      },
    ],
  })

  await send(control, token, said)

  const { needs_restart, dropped_events, engine_restarts, stats, pools } = said
  expect(await p1(control)).toMatchObject({
    needs_restart,
    dropped_events,
    engine_restarts,
    stats,
    pools,
    agent_version: '0.1.0',
    listen: '127.0.0.1:6432',
    region: 'fra',
    reported_at: '2026-11-23T19:00:00.000Z',
  })
  const { body } = await control.call<{ proxies: object[] }>('GET', '/v1/fleets/demo/proxies')
  expect(body.proxies[0]).not.toHaveProperty('pools')
})

test('116: a report that is sent again changes nothing and is acknowledged again', async () => {
  const { control, token } = await withProxy()
  const first = report(1, { seq: 5, events: [lost('e1'), lost('e2')] })

  const answers = [await send(control, token, first), await send(control, token, first)]

  const ack = { ack: 5, poll_interval_ms: 5000, report_interval_ms: 30_000, pools: 'changed' }
  expect(answers.map(({ body }) => body)).toEqual([ack, ack])
  const { body } = await control.call<{ disconnects: object[] }>('GET', '/v1/fleets/demo/disconnects')
  expect(body.disconnects).toHaveLength(2)
})

test('116: a report that arrives after a later one does not bring old news back', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1, { seq: 2, stats: { clients: 2, waiting: 0, servers: 0 } }))

  await send(control, token, report(1, { seq: 1, stats: { clients: 1, waiting: 0, servers: 0 }, events: [lost('e1')] }))

  expect((await p1(control)).stats).toMatchObject({ clients: 2 })
  const { body } = await control.call<{ disconnects: object[] }>('GET', '/v1/fleets/demo/disconnects')
  expect(body.disconnects).toHaveLength(1)
})

test('a new process of a proxy begins without a report, and is in_sync by its own', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1))
  control.clock.nowMs += 100

  await sayHello(control, token, { boot: 'boot-2' })
  const greeted = await p1(control)
  await send(control, token, report(1, { boot: 'boot-2' }))

  expect(greeted).toMatchObject({ boot: 'boot-2', stats: null, state: 'behind' })
  expect(await processes(control)).toEqual([['boot-2', 'in_sync']])
})

/** Boot and state of each process, the newest first. */
async function processes(control: InProcessControl): Promise<[string, string][]> {
  const { body } = await control.call<{ proxies: Proxy[] }>('GET', '/v1/fleets/demo/proxies')
  return body.proxies.map(({ boot, state }) => [boot, state])
}

/** A poll of one process. */
async function poll(control: InProcessControl, token: string, boot: string, etag?: string): Promise<void> {
  const headers = {
    'flotilla-proxy': 'p1',
    'flotilla-boot': boot,
    ...(etag === undefined ? {} : { 'if-none-match': etag }),
  }
  await control.call('GET', '/v1/fleets/demo/manifest', { token, headers })
}

/** Two processes with one name: each has said hello and reported, and the older one polls on. */
async function withTwins() {
  const { control, token } = await withProxy()
  await send(control, token, report(1))
  control.clock.nowMs += 100
  await sayHello(control, token, { boot: 'boot-2' })
  await send(control, token, report(1, { boot: 'boot-2' }))
  control.clock.nowMs += 100
  await poll(control, token, 'boot-1')
  return { control, token }
}

test('two processes with one name are both duplicate, with what each reports, until one is gone', async () => {
  const { control, token } = await withTwins()
  const both = await processes(control)
  const stats = { clients: 7, waiting: 0, servers: 0 }
  const { body } = await send(control, token, report(1, { seq: 2, stats }))
  const first = await control.call<Proxy>('GET', '/v1/fleets/demo/proxies/p1?boot=boot-1')
  control.clock.nowMs += 25_001
  await poll(control, token, 'boot-2')

  expect(both).toEqual([
    ['boot-2', 'duplicate'],
    ['boot-1', 'duplicate'],
  ])
  expect((await p1(control)).boot).toBe('boot-2')
  expect(body).toMatchObject({ ack: 2, pools: 'changed' })
  expect(first.body).toMatchObject({
    boot: 'boot-1',
    stats,
    reasons: ['another process has the same name (boot boot-2)'],
  })
  expect(await processes(control)).toEqual([['boot-2', 'in_sync']])
})

test('twins have numbers of their own, and get hints and operations each', async () => {
  const { control, token } = await withTwins()
  for (const boot of ['boot-1', 'boot-2']) await sayHello(control, token, { boot, hint_url: `http://${boot}` })

  const peers = await control.call('GET', '/v1/fleets/demo/peers', { token })
  await control.call('POST', '/v1/fleets/demo/reload', { body: {} })
  const operation = await control.call<{ proxies: object[] }>('POST', '/v1/fleets/demo/pools/app/reconnect')

  expect(peers.body).toMatchObject({
    peers: [
      { proxy: 'p1', boot: 'boot-1', number: 1 },
      { proxy: 'p1', boot: 'boot-2', number: 2 },
    ],
  })
  expect(control.hints.at(-1)?.targets.map(({ boot }) => boot)).toEqual(['boot-1', 'boot-2'])
  expect(control.operations.map(({ target }) => target.boot).toSorted()).toEqual(['boot-1', 'boot-2'])
  expect(operation.body.proxies).toHaveLength(2)
})

test('a process that takes over has the number of the one before at once, which is gone', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1))

  await sayHello(control, token, { boot: 'boot-2', takes_over_from: 'boot-1' })

  const peers = await control.call('GET', '/v1/fleets/demo/peers', { token })
  expect(peers.body).toMatchObject({ peers: [{ proxy: 'p1', boot: 'boot-2', number: 1 }] })
  expect((await processes(control)).map(([boot]) => boot)).toEqual(['boot-2'])
})

test('a process that was taken over, and is there all the same, shows with its next report', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1))
  control.clock.nowMs += 100
  await sayHello(control, token, { boot: 'boot-2', takes_over_from: 'boot-1' })
  control.clock.nowMs += 100

  await send(control, token, report(1, { seq: 2 }))
  control.clock.nowMs += 100
  await poll(control, token, 'boot-2')

  expect((await processes(control)).map(([, state]) => state)).toEqual(['duplicate', 'duplicate'])
})

test('a process that was silent for three polls has ended: the next one gets its number', async () => {
  const { control, token } = await withProxy()
  control.clock.nowMs += 15_001

  await sayHello(control, token, { boot: 'boot-2' })

  const peers = await control.call('GET', '/v1/fleets/demo/peers', { token })
  expect(peers.body).toMatchObject({ peers: [{ proxy: 'p1', boot: 'boot-2', number: 1 }] })
})

test('a report of changes is merged into what is stored', async () => {
  const { control, token } = await withProxy()
  const [app] = await runningPools(control, 1)
  const old = { ...app!, pool: 'old', hash: 'a'.repeat(64) }
  await send(control, token, report(1, { pools: [app!, old] }))
  const serving = { state: 'no', cause: '28P01: no', since: '2026-11-23T18:00:00.000Z' } as const
  const drifted = await p1(control)

  const { body } = await send(
    control,
    token,
    report(1, { seq: 2, base: 1, pools: [{ ...app!, serving }], pools_removed: [{ pool: 'old', user: 'web' }] }),
  )
  await send(control, token, report(1, { seq: 3, base: 2, stats: { clients: 3, waiting: 0, servers: 0 } }))

  expect(drifted).toMatchObject({ state: 'drifted', reasons: ['old/web is not in the configuration'] })
  expect(body).toMatchObject({ ack: 2, pools: 'changed' })
  expect(await p1(control)).toMatchObject({
    state: 'degraded',
    reasons: ['app/web does not serve since 2026-11-23T18:00:00.000Z: 28P01: no'],
    not_serving: 1,
    stats: { clients: 3 },
    pools: [{ pool: 'app', serving }],
  })
})

test('changes of a report that control does not have are not taken, and the answer requests all pools; events are taken', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1))

  const { body } = await send(control, token, report(1, { seq: 9, base: 8, events: [lost('e1')] }))
  const { body: found } = await control.call<{ disconnects: object[] }>('GET', '/v1/fleets/demo/disconnects')
  const after = await p1(control)

  expect(body).toMatchObject({ ack: 9, pools: 'all' })
  expect(found.disconnects).toHaveLength(1)
  expect(after.state).toBe('in_sync')
})

test('a false report makes no proxy in_sync: hashes are compared with those that control made', async () => {
  const { control, token } = await withProxy()
  const [app] = await runningPools(control, 1)
  const otherHash = 'f'.repeat(64)
  const lies = [{ ...app!, hash: otherHash, desired_hash: otherHash }]

  await send(control, token, report(1, { pools: lies }))
  const one = await p1(control)
  await send(control, token, report(1, { seq: 2, pools: [{ ...app!, hash: null }] }))

  expect(one).toMatchObject({ state: 'drifted', reasons: ['app/web runs something else'] })
  expect(await p1(control)).toMatchObject({ state: 'drifted', reasons: ['it reports none of its pools'] })
})

test('what was done at one proxy alone shows as drift', async () => {
  const { control, token } = await withProxy()
  const [app] = await runningPools(control, 1)
  const at = async (seq: number, over: Partial<Report>) => {
    await send(control, token, report(1, { seq, pools: [app!], ...over }))
    return (await p1(control)).reasons
  }

  expect(await at(1, { pools: [{ ...app!, operated: ['paused', 'suspended'] }] })).toEqual([
    'app is paused at this proxy',
    'it is suspended',
  ])
  expect(await at(2, { overridden: ['pool_size'] })).toEqual(['pool_size was SET at its console'])
})

test.for([
  [
    'hello',
    async (control: InProcessControl, token: string) => {
      await sayHello(control, token, { applied: { epoch: 1, version: 7 } })
    },
  ],
  [
    'a poll',
    async (control: InProcessControl, token: string) => {
      await poll(control, token, 'boot-1', '"e1.v7.0123456789abcdef"')
    },
  ],
  [
    'a report',
    async (control: InProcessControl, token: string) => {
      await send(control, token, { ...report(7), pools: await runningPools(control, 1) })
    },
  ],
] as const)('a proxy that is above control by its %s is regressed', async ([, say]) => {
  const { control, token } = await withProxy()

  await say(control, token)

  expect(await p1(control)).toMatchObject({
    state: 'regressed',
    reasons: ["it is at v7, above control's v1: if control's store was restored, `flotilla epoch raise`"],
  })
})

test('a proxy whose token was revoked is offline, and that is the reason', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1))
  const tokens = await control.call<{ tokens: { id: string }[] }>('GET', '/v1/fleets/demo/tokens')
  await control.call('DELETE', `/v1/fleets/demo/tokens/${tokens.body.tokens[0]!.id}`)

  await poll(control, token, 'boot-1')
  control.clock.nowMs += 30_000

  expect(await p1(control)).toMatchObject({
    state: 'offline',
    reasons: [
      'not seen since 2026-11-23T19:00:00.000Z; its token was revoked, and is refused since 2026-11-23T19:00:00.000Z',
    ],
  })
})

test('hello again of the same boot keeps what it reported', async () => {
  const { control, token } = await withProxy()
  await send(control, token, report(1, { seq: 4 }))

  await sayHello(control, token)
  await send(control, token, report(1, { seq: 3, applied: null }))

  expect((await p1(control)).state).toBe('in_sync')
})

test('a proxy that control has forgotten is known again by its report', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())

  await send(control, token, report(1))
  control.clock.nowMs += 1
  await send(control, token, report(1, { boot: 'boot-2' }))

  expect(await p1(control)).toMatchObject({ state: 'in_sync', boot: 'boot-2', agent_version: null })
})

test('a proxy that was not seen for a week is forgotten when another one comes', async () => {
  const { control, token } = await withProxy()
  const names = async () =>
    (await control.call<{ proxies: Proxy[] }>('GET', '/v1/fleets/demo/proxies')).body.proxies.map(({ id }) => id)
  const newcomer = async (id: string) =>
    await control.call('POST', `/v1/fleets/demo/proxies/${id}/hello`, { token, body: hello })

  control.clock.nowMs += 7 * 24 * 3_600_000
  await newcomer('p2')
  const afterWeek = await names()
  control.clock.nowMs += 1
  await newcomer('p3')

  expect(afterWeek).toEqual(['p1', 'p2'])
  expect(await names()).toEqual(['p2', 'p3'])
})

test('what a later release reports beyond this one is kept and shown', async () => {
  const { control, token } = await withProxy()
  const [app] = await runningPools(control, 1)
  const serving = { state: 'half', cause: null, since: null }
  const pool = { ...app!, state: 'hibernating', serving, operated: ['frozen'], shard: 3 }
  const later = { ...report(1), weather: { wind: 'west' }, pools: [pool] }

  const { status } = await send(control, token, later)
  const { body } = await control.call<ProxyDetail>('GET', '/v1/fleets/demo/proxies/p1')

  expect(status).toBe(200)
  expect(body).toMatchObject({ state: 'in_sync', pools: [pool], other: { weather: { wind: 'west' } } })
})

test('a report that is not one is refused with the field that is wrong', async () => {
  const { control, token } = await withProxy()
  const bad = { ...report(1), seq: 0, events: [{ ...lost('e'), cause: '' }] }

  const answer = await control.call('POST', '/v1/fleets/demo/proxies/p1/reports', { token, body: bad })

  expect(answer).toMatchObject({ status: 422, body: { errors: [{ path: 'seq' }, { path: 'events.0.cause' }] } })
})

test('what was seen in memory is written down in batches, once, and never goes back', async () => {
  const { control, token } = await withProxy()
  const { NodePresence } = await import('../../control/node/presence.ts')
  const presence = new NodePresence(() => control.clock.nowMs + 60_000)
  presence.seen('demo', 'p1', 'boot-1')
  presence.seen('demo', 'unknown', null)

  await presence.flush(control.host.store)
  const later = (await p1(control)).last_seen_at
  const changes = await control.host.store.db.get<[number]>('SELECT total_changes()')
  await presence.flush(control.host.store)
  const changesAfter = await control.host.store.db.get<[number]>('SELECT total_changes()')
  await control.call('GET', '/v1/fleets/demo/manifest', { token, headers: { 'flotilla-proxy': 'p1' } })
  await (control.host.presence as InstanceType<typeof NodePresence>).flush(control.host.store)

  expect(later).toBe('2026-11-23T19:01:00.000Z')
  expect(changesAfter).toEqual(changes)
  expect((await p1(control)).last_seen_at).toBe(later)
})

test('a text in a report that is too long is cut, so that the rest of the report is not lost', async () => {
  const { control, token } = await withProxy()
  const error = { code: 'unresolvable_host', message: 'x'.repeat(5000), pool: 'app', user: 'web' }

  const { status } = await send(control, token, report(1, { error }))

  expect(status).toBe(200)
  expect((await p1(control)).error?.message).toBe('x'.repeat(1000))
})

test('a report of 0.1.0, which knows none of the newer fields, is taken', async () => {
  const { control, token } = await withProxy()
  const pools = await runningPools(control, 1)

  const { status } = await send(control, token, { ...report(1), pools })

  expect(status).toBe(200)
  expect(await p1(control)).toMatchObject({
    state: 'in_sync',
    not_serving: 0,
    problems: [],
    operated: { paused: [], disabled: [], suspended: false },
    window: null,
  })
})
