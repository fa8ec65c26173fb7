import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { poolHashes } from '../../shared/hash.ts'
import type { EffectivePool } from '../../shared/config/effective.ts'
import { reportNowHeader, manifestSchema, proxyHeader } from '../../shared/wire.ts'
import type { Manifest } from '../../shared/wire.ts'
import { raiseEpoch } from '../../control/store/control-row.ts'
import { document, inProcessControl } from './in-process.ts'
import type { Answer, InProcessControl } from './in-process.ts'

const path = '/v1/fleets/demo/manifest'

async function poll(
  control: InProcessControl,
  token: string,
  headers: Record<string, string> = {},
): Promise<Answer<Manifest>> {
  return await control.call<Manifest>('GET', path, { token, headers })
}

/** Resolves when everything that can happen without a wake has happened. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

test('a fleet without a version offers nothing', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()

  expect(await poll(control, token)).toMatchObject({ status: 204, text: '' })
})

test('a manifest names its position, the hashes of every pool and what concerns the proxies', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply({ general: { poll_interval: '2s' }, ...document(), admin_users: { ops: { password: 'x' } } })

  const { status, body, headers } = await poll(control, token)

  expect(status).toBe(200)
  expect(manifestSchema.parse(body)).toEqual(body)
  expect(headers.get('etag')).toMatch(/^"e1\.v1\.[0-9a-f]{16}"$/)
  expect(body).toMatchObject({ epoch: 1, version: 1, pools: [{ pool: 'app', user: 'web' }] })
  expect(body.general.settings['poll_interval']).toBe('2s')
  expect(body.general.console_users).toEqual([
    { user: 'ops', right: 'admin', password: { secret: 'admin_users.ops.password', version: 1 } },
  ])
})

test('the bytes of a pool body have the hash by which they are requested, and never change', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  const { hash, connect_hash } = (await poll(control, token)).body.pools[0]!
  await control.apply(document({ pool_size: 3 }))

  const answer = await control.call<EffectivePool>('GET', `/v1/fleets/demo/pools/${hash}`, { token })

  expect(createHash('sha256').update(answer.text).digest('hex')).toBe(hash)
  expect(poolHashes(answer.body, 1)).toEqual({ hash, connect_hash })
  expect(answer.headers.get('cache-control')).toContain('immutable')
  expect(answer.body).toMatchObject({ pool: 'app', user: 'web', database: 'app', pool_size: 20 })
})

test('a hash that no pool of the fleet has is not found', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  const { hash } = (await poll(control, token)).body.pools[0]!
  const other = await control.fleet('other')

  expect((await control.call('GET', `/v1/fleets/demo/pools/${'0'.repeat(64)}`, { token })).status).toBe(404)
  expect((await control.call('GET', `/v1/fleets/other/pools/${hash}`, { token: other })).status).toBe(404)
})

test('a poll for what was offered last is answered 304 and writes nothing', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  const etag = (await poll(control, token)).headers.get('etag')!
  const before = await control.host.store.db.get<[number]>('SELECT total_changes()')

  const answers = [
    await poll(control, token, { 'if-none-match': etag }),
    await poll(control, token, { 'if-none-match': '"x"' }),
  ]

  expect(answers.map(({ status }) => status)).toEqual([304, 200])
  expect(answers[0]).toMatchObject({ text: '' })
  expect(answers[0]!.headers.get('etag')).toBe(etag)
  expect(await control.host.store.db.get<[number]>('SELECT total_changes()')).toEqual(before)
})

test('A, B, A offers three manifests, and the pools of the last are those of the first', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  const offers: Answer<Manifest>[] = []
  for (const size of [1, 2, 1]) {
    await control.apply(document({ pool_size: size }))
    offers.push(await poll(control, token))
  }

  expect(new Set(offers.map(({ headers }) => headers.get('etag'))).size).toBe(3)
  expect(offers[2]!.body.pools).toEqual(offers[0]!.body.pools)
  expect(offers[1]!.body.pools).not.toEqual(offers[0]!.body.pools)
})

test('a higher epoch offers the same pools anew', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  const before = await poll(control, token)

  await raiseEpoch(control.host.store, { from: 1, to: 2 })
  const after = await poll(control, token, { 'if-none-match': before.headers.get('etag')! })

  expect(after).toMatchObject({ status: 200, body: { ...before.body, epoch: 2 } })
})

test('a parked poll is answered as soon as there is a new version', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  const etag = (await poll(control, token)).headers.get('etag')!
  let answered = false
  const parked = poll(control, token, { 'if-none-match': etag, prefer: 'wait=25' }).finally(() => {
    answered = true
  })
  await settled()
  const answeredBefore = answered

  await control.apply(document({ pool_size: 2 }))

  expect(answeredBefore).toBe(false)
  expect(await parked).toMatchObject({ status: 200, body: { version: 2 } })
})

test('a parked poll of a fleet without a version is answered by the first one', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  const parked = poll(control, token, { prefer: 'wait=25' })
  await settled()

  await control.apply(document())

  expect(await parked).toMatchObject({ status: 200, body: { version: 1 } })
})

test('a reload ends the parked polls of the proxies it asks, and says so', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  const etag = (await poll(control, token)).headers.get('etag')!
  await control.call('POST', '/v1/fleets/demo/proxies/one/hello', {
    token,
    body: { boot: 'b', agent_version: '1', listen: '' },
  })
  let isStrangerAnswered = false
  const headers = { 'if-none-match': etag, prefer: 'wait=25' }
  const parked = poll(control, token, { ...headers, [proxyHeader]: 'one' })
  const stranger = poll(control, token, { ...headers, [proxyHeader]: 'other' }).finally(() => {
    isStrangerAnswered = true
  })
  await settled()

  await control.call('POST', '/v1/fleets/demo/reload', { body: {} })
  const answer = await parked
  const strangerBefore = isStrangerAnswered
  await control.apply(document({ pool_size: 2 }))

  expect([answer.status, answer.headers.get(reportNowHeader)]).toEqual([304, 'reload'])
  expect(strangerBefore).toBe(false)
  expect((await stranger).headers.get(reportNowHeader)).toBeNull()
})

test('a parked poll ends with 304 when its time is up', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  const etag = (await poll(control, token)).headers.get('etag')!
  const startedMs = performance.now()

  const answer = await poll(control, token, { 'if-none-match': etag, prefer: 'respond-async, wait=1' })

  expect([answer.status, answer.headers.get(reportNowHeader)]).toEqual([304, null])
  expect(performance.now() - startedMs).toBeGreaterThan(900)
})

test('a poll with something to offer is not parked, nor is one on a host that cannot', async () => {
  const control = await inProcessControl({ parks: false })
  const token = await control.fleet()
  await control.apply(document())
  const offered = await poll(control, token, { prefer: 'wait=25' })

  const held = await poll(control, token, { 'if-none-match': offered.headers.get('etag')!, prefer: 'wait=25' })

  expect([offered.status, held.status]).toEqual([200, 304])
})

test('a parked poll whose caller has gone lets go', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  const etag = (await poll(control, token)).headers.get('etag')!
  const caller = new AbortController()
  const parked = control.call('GET', path, {
    token,
    headers: { 'if-none-match': etag, prefer: 'wait=60' },
    signal: caller.signal,
  })
  await settled()

  caller.abort()

  expect((await parked).status).toBe(304)
})

test('polls are counted by what they were answered', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await poll(control, token)
  await control.apply(document())
  const etag = (await poll(control, token)).headers.get('etag')!
  await poll(control, token, { 'if-none-match': etag })

  const { text } = await control.call('GET', '/metrics', { token: null })

  for (const result of ['none', 'offered', 'unchanged']) {
    expect(text).toContain(`flotilla_control_polls_total{result="${result}"} 1`)
  }
  expect(text).toContain('flotilla_control_fleet_version{fleet="demo"} 1')
})
