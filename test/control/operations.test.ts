import { describe, expect, test } from 'vitest'
import type { Fleet, OperationLog, OperationResult, StandingOperation, Tokens } from '../../shared/api.ts'
import { operations, poolOperations } from '../../shared/operations.ts'
import { manifestSchema } from '../../shared/wire.ts'
import type { Manifest, Orders } from '../../shared/wire.ts'
import type { Call, InProcessControl } from './in-process.ts'
import { document, inProcessControl, report } from './in-process.ts'

async function withProxies() {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  for (const [name, facts] of Object.entries({
    busy: { hint_url: 'http://busy' },
    done: { hint_url: 'http://done' },
    gone: { hint_url: 'http://gone' },
    hidden: {},
    stray: { hint_url: 'http://stray' },
  })) {
    await control.call('POST', `/v1/fleets/demo/proxies/${name}/hello`, {
      token,
      body: { boot: 'boot-1', agent_version: '1', listen: 'x', ...facts },
    })
  }
  control.operationOutcomes.set('busy', { known: true, paused: true, servers: 3 })
  control.operationOutcomes.set('done', { known: true, paused: true, servers: 0 })
  control.operationOutcomes.set('stray', { known: false, paused: false, servers: 0 })
  return { control, token }
}

async function order(control: InProcessControl, operation: string, body?: Call['body'], pool = 'app') {
  const call = body === undefined ? {} : { body }
  return await control.call<OperationResult>('POST', `/v1/fleets/demo/pools/${pool}/${operation}`, call)
}

async function standing(control: InProcessControl): Promise<StandingOperation[]> {
  const { body } = await control.call<{ operations: StandingOperation[] }>('GET', '/v1/fleets/demo/operations')
  return body.operations
}

async function poll(control: InProcessControl, token: string): Promise<{ etag: string; orders: Orders | undefined }> {
  const { body, headers } = await control.call<Manifest>('GET', '/v1/fleets/demo/manifest', { token })
  return { etag: headers.get('etag')!, orders: manifestSchema.parse(body).operations }
}

test.for(poolOperations)('%s is sent to every proxy, and each has its own outcome', async (operation) => {
  const { control } = await withProxies()
  const stands = operations[operation].order !== null
  const message = stands ? 'follows at its next poll' : null

  const { status, body } = await order(control, operation)

  expect(status).toBe(200)
  expect(body).toEqual({
    pool: 'app',
    operation,
    number: stands ? 1 : null,
    expires_at: null,
    proxies: [
      { id: 'busy', outcome: 'under_way', paused: true, servers: 3, message: null },
      { id: 'done', outcome: 'done', paused: true, servers: 0, message: null },
      { id: 'gone', outcome: 'unreachable', paused: null, servers: null, message },
      { id: 'hidden', outcome: 'unreachable', paused: null, servers: null, message },
      { id: 'stray', outcome: 'unknown_pool', paused: false, servers: 0, message: null },
    ],
  })
  expect(control.operations.map(({ target }) => target.proxy)).toEqual(['busy', 'done', 'gone', 'stray'])
  const sent = { epoch: 1, number: 1, version: 1, expires_at: null, reason: null }
  expect(control.operations[0]?.request).toEqual({
    fleet: 'demo',
    operation,
    pool: 'app',
    ...(stands ? { order: sent } : {}),
  })
})

test('a proxy token allows no operation, and an unknown fleet has none', async () => {
  const { control, token } = await withProxies()

  const refused = await control.call('POST', '/v1/fleets/demo/pools/app/pause', { token })
  const nowhere = await control.call('POST', '/v1/fleets/nowhere/pools/app/pause')

  expect([refused.status, nowhere.status]).toEqual([403, 404])
  expect(control.operations).toEqual([])
  expect(await standing(control)).toEqual([])
})

describe('orders', () => {
  test('a pause and a disable stand with who, when, why and until when; resume and enable end them', async () => {
    const { control } = await withProxies()

    await order(control, 'pause', { reason: 'new host', for: 600 })
    await order(control, 'disable')
    const both = await standing(control)
    await order(control, 'resume', { reason: 'done' })
    await order(control, 'enable')

    const at = '2026-11-23T19:00:00.000Z'
    const common = { pool: 'app', version: 1, actor: 'operator', created_at: at }
    expect(both).toEqual([
      { ...common, operation: 'disable', number: 2, reason: null, expires_at: null },
      { ...common, operation: 'pause', number: 1, reason: 'new host', expires_at: '2026-11-23T19:10:00.000Z' },
    ])
    expect(await standing(control)).toEqual([])
    const { body } = await control.call<OperationLog>('GET', '/v1/fleets/demo/operations/log')
    expect(body.operations.map(({ operation, reason }) => [operation, reason])).toEqual([
      ['enable', null],
      ['resume', 'done'],
      ['disable', null],
      ['pause', 'new host'],
    ])
  })

  test('they are in the manifest, whose ETag changes with each, and a poll for it writes nothing', async () => {
    const { control, token } = await withProxies()

    const before = await poll(control, token)
    await order(control, 'kill', { reason: 'runaway' })
    const killed = await poll(control, token)
    const count = await control.host.store.db.get<[number]>('SELECT total_changes()')
    const unchanged = await control.call('GET', '/v1/fleets/demo/manifest', {
      token,
      headers: { 'if-none-match': killed.etag },
    })
    const countAfter = await control.host.store.db.get<[number]>('SELECT total_changes()')
    await order(control, 'resume')
    const resumed = await poll(control, token)

    const common = { pool: 'app', version: 1, expires_at: null }
    expect(before.orders).toEqual({ number: 0, pools: [] })
    expect(killed.orders).toEqual({
      number: 1,
      pools: [{ ...common, operation: 'pause', number: 1, reason: 'runaway' }],
    })
    expect(resumed.orders).toEqual({ number: 2, pools: [{ ...common, operation: 'resume', number: 2, reason: null }] })
    expect(before.etag).toMatch(/^"e1\.v1\.[0-9a-f]{16}"$/)
    expect([killed.etag, resumed.etag]).toEqual([1, 2].map((number) => before.etag.replace(/"$/, `.o${number}"`)))
    expect(unchanged.status).toBe(304)
    expect(countAfter).toEqual(count)
  })

  test('a parked poll is answered as soon as there is one', async () => {
    const { control, token } = await withProxies()
    const { etag } = await poll(control, token)

    const parked = control.call<Manifest>('GET', '/v1/fleets/demo/manifest', {
      token,
      headers: { 'if-none-match': etag, prefer: 'wait=25' },
    })
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    await order(control, 'pause')

    expect((await parked).body.operations?.number).toBe(1)
  })

  test('a repetition raises the number, so that it reaches all proxies, and the pause stands since the first', async () => {
    const { control } = await withProxies()

    await order(control, 'pause', { reason: 'new host' })
    control.clock.nowMs += 60_000
    await order(control, 'pause', { reason: 'new host' })
    const repeated = await standing(control)
    await order(control, 'pause')
    const anew = await standing(control)

    expect(repeated).toMatchObject([{ number: 2, reason: 'new host', created_at: '2026-11-23T19:00:00.000Z' }])
    expect(anew).toMatchObject([{ number: 3, reason: null, created_at: '2026-11-23T19:01:00.000Z' }])
    const { body } = await control.call<OperationLog>('GET', '/v1/fleets/demo/operations/log')
    expect(body.operations).toHaveLength(2)
  })

  test('one that has expired no longer stands, is not counted, and does not return', async () => {
    const { control } = await withProxies()
    const count = async () => (await control.call<Fleet>('GET', '/v1/fleets/demo')).body.orders
    await order(control, 'pause', { for: 600 })
    const before = await count()
    const scraped = await control.call('GET', '/metrics', { token: null })

    control.clock.nowMs += 600_000

    expect([before, await count(), await standing(control)]).toEqual([1, 0, []])
    expect(scraped.text).toContain('flotilla_control_orders{fleet="demo"} 1')
  })

  test('what ended long ago is forgotten, and what stands is not', async () => {
    const { control, token } = await withProxies()
    await order(control, 'pause')
    await order(control, 'disable')
    await order(control, 'resume')
    const { orders: before } = await poll(control, token)
    control.clock.nowMs += 8 * 24 * 3_600_000

    await order(control, 'disable', { reason: 'still' })
    const { orders } = await poll(control, token)

    expect(before?.pools.map(({ operation }) => operation)).toEqual(['disable', 'resume'])
    expect(orders?.pools.map(({ operation }) => operation)).toEqual(['disable'])
    expect(orders?.number).toBe(4)
  })

  test('of orders given at the same time each has a number of its own, and the last holds', async () => {
    const { control } = await withProxies()

    const all = await Promise.all(['pause', 'resume', 'pause', 'resume', 'kill'].map((one) => order(control, one)))

    const numbers = all.map(({ body }) => body.number)
    const last = all.find(({ body }) => body.number === 5)
    expect(new Set(numbers)).toEqual(new Set([1, 2, 3, 4, 5]))
    expect((await standing(control)).map(({ operation }) => operation)).toEqual(
      last?.body.operation === 'resume' ? [] : [last?.body.operation],
    )
  })

  test('a pool that is nowhere is refused; one that only a proxy has, or that is paused, is not', async () => {
    const { control, token } = await withProxies()
    const pool = { user: 'web', hash: null, desired_hash: null, state: 'draining' as const, draining_servers: 1 }

    const nowhere = await order(control, 'pause', undefined, 'ap')
    await control.call('POST', '/v1/fleets/demo/proxies/done/reports', {
      token,
      body: report(1, { pools: [{ ...pool, pool: 'old', code: null, message: null }] }),
    })
    const draining = await order(control, 'pause', undefined, 'old')
    await control.call('POST', '/v1/fleets/demo/proxies/done/reports', { token, body: report(1, { seq: 2 }) })
    const paused = await order(control, 'resume', undefined, 'old')
    const again = await order(control, 'pause', undefined, 'old')

    expect([nowhere, draining, paused, again].map(({ status }) => status)).toEqual([404, 200, 200, 404])
    expect(nowhere.body).toMatchObject({ detail: 'no pool "ap" in version 1 of the fleet or at any of its proxies' })
  })

  test('where "*" is configured, any database can be paused', async () => {
    const control = await inProcessControl()
    await control.fleet()
    await control.apply({ pools: { '*': { servers: [{ host: '10.0.0.1' }], users: { web: { password: 'geheim' } } } } })

    const made = await order(control, 'pause', undefined, 'any')
    const all = await order(control, 'disable', undefined, '*')

    expect([made.status, all.status]).toEqual([200, 200])
    expect((await standing(control)).map(({ pool }) => pool)).toEqual(['*', 'any'])
  })

  test.each([
    ['resume', { for: 60 }],
    ['reconnect', { for: 60 }],
    ['pause', { for: 0 }],
    ['pause', { for: 31 * 24 * 3600 }],
    ['pause', { reason: 'x'.repeat(201) }],
  ])('%s with %j is refused, and nothing is stored', async (operation, body) => {
    const { control } = await withProxies()

    expect((await order(control, operation, body)).status).toBe(422)
    expect(await standing(control)).toEqual([])
    expect(control.operations).toEqual([])
  })

  test('what waits for a version, and what a newer order has overtaken, is told', async () => {
    const { control } = await withProxies()
    control.operationOutcomes.set('busy', { known: true, paused: true, servers: 0, order: 'waits' })
    control.operationOutcomes.set('done', { known: true, paused: true, servers: 0, order: 'overtaken' })

    const { body } = await order(control, 'resume')

    expect(body.proxies.slice(0, 2)).toMatchObject([
      { id: 'busy', outcome: 'under_way', message: 'waits until it runs v1' },
      {
        id: 'done',
        outcome: 'under_way',
        message: expect.stringMatching(/^a newer order holds there; .* raise its epoch$/),
      },
    ])
  })
})

test('a proxy whose token was revoked gets no hints and no operations, until it comes with another token', async () => {
  const { control } = await withProxies()
  const [first] = (await control.call<Tokens>('GET', '/v1/fleets/demo/tokens')).body.tokens
  const other = await control.call<{ token: string }>('POST', '/v1/fleets/demo/tokens', { body: { name: 'new' } })
  const hello = { boot: 'boot-2', takes_over_from: 'boot-1', agent_version: '1', listen: 'x', hint_url: 'http://done' }
  await control.call('POST', '/v1/fleets/demo/proxies/done/hello', { token: other.body.token, body: hello })

  await control.call('DELETE', `/v1/fleets/demo/tokens/${first!.id}`)
  const { body } = await order(control, 'pause')
  await control.apply(document({ pool_size: 3 }))

  expect(control.operations.map(({ target }) => target.proxy)).toEqual(['done'])
  expect(control.hints.at(-1)?.targets.map(({ proxy }) => proxy)).toEqual(['done'])
  expect(body.proxies.map(({ id, message }) => [id, message])).toEqual([
    ['busy', 'its token was revoked'],
    ['done', null],
    ['gone', 'its token was revoked'],
    ['hidden', 'its token was revoked'],
    ['stray', 'its token was revoked'],
  ])
})
