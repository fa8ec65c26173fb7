import { expect, test } from 'vitest'
import type { Reload } from '../../shared/api.ts'
import type { Report } from '../../shared/wire.ts'
import { document, inProcessControl, report, runningPools } from './in-process.ts'
import type { InProcessControl } from './in-process.ts'

const path = '/v1/fleets/demo/reload'

async function withProxies(names: readonly string[], parks = true) {
  const control = await inProcessControl({ parks })
  const token = await control.fleet()
  await control.apply(document())
  for (const name of names) {
    await control.call('POST', `/v1/fleets/demo/proxies/${name}/hello`, {
      token,
      body: { boot: 'boot-1', agent_version: '1', listen: 'x', hint_url: `http://${name}` },
    })
  }
  const send = async (name: string, given: Report): Promise<void> => {
    const pools = given.applied === null ? [] : await runningPools(control, given.applied.version)
    const body = { ...given, pools }
    await control.call('POST', `/v1/fleets/demo/proxies/${name}/reports`, { token, body })
  }
  return { control, send }
}

/** Resolves when the reload's hint went out, which is when it begins to wait. */
async function hinted(control: InProcessControl): Promise<void> {
  while (control.hints.at(-1)?.hint.reason !== 'reload') await new Promise((resolve) => setImmediate(resolve))
}

const outcomes = ({ proxies }: Reload) => Object.fromEntries(proxies.map(({ id, outcome }) => [id, outcome]))

test('without wait every proxy is hinted and the answer comes at once', async () => {
  const { control } = await withProxies(['p1', 'p2'])

  const { status, body } = await control.call<Reload>('POST', path, { body: {} })

  expect(status).toBe(200)
  expect(outcomes(body)).toEqual({ p1: 'hinted', p2: 'hinted' })
  const { targets, hint } = control.hints.at(-1)!
  expect(targets.map(({ proxy }) => proxy)).toEqual(['p1', 'p2'])
  expect(hint).toEqual({ fleet: 'demo', epoch: 1, version: 1, reason: 'reload' })
})

test('with wait the outcome of each proxy is what it reports after the reload', async () => {
  const { control, send } = await withProxies(['good', 'bad'])
  const error = { code: 'unresolvable_host', message: 'db is not known', pool: 'app', user: 'web' }
  const answer = control.call<Reload>('POST', path, { body: { wait: 30 } })
  await hinted(control)

  await send('good', report(1, { seq: 1 }))
  await send('bad', report(1, { seq: 1, error }))

  const { body } = await answer
  expect(outcomes(body)).toEqual({ good: 'applied', bad: 'failed' })
  expect(body.proxies.find(({ id }) => id === 'bad')).toMatchObject({ error, applied: { version: 1 } })
})

test('a report from before the reload does not count, even a good one', async () => {
  const { control, send } = await withProxies(['p1'])
  await send('p1', report(1, { seq: 1 }))
  control.clock.nowMs += 1
  const answer = control.call<Reload>('POST', path, { body: { wait: 30 } })
  await hinted(control)
  const error = { code: 'unresolvable_host', message: 'db is not known', pool: null, user: null }

  await send('p1', report(1, { seq: 2, error }))

  expect(outcomes((await answer).body)).toEqual({ p1: 'failed' })
})

test('a proxy that runs an older version is waited for until it has applied the current one', async () => {
  const { control, send } = await withProxies(['p1'])
  await control.apply(document({ pool_size: 2 }))
  const answer = control.call<Reload>('POST', path, { body: { wait: 30 } })
  await hinted(control)

  await send('p1', report(2, { seq: 1, applied: { epoch: 1, version: 1 } }))
  await send('p1', report(2, { seq: 2 }))

  expect(outcomes((await answer).body)).toEqual({ p1: 'applied' })
})

test('an offline proxy is not waited for', async () => {
  const { control, send } = await withProxies(['gone', 'here'])
  control.clock.nowMs += 3600_000
  await send('here', report(1, { seq: 1 }))
  control.clock.nowMs += 1
  const answer = control.call<Reload>('POST', path, { body: { wait: 30 } })
  await hinted(control)

  await send('here', report(1, { seq: 2 }))

  expect(outcomes((await answer).body)).toEqual({ gone: 'offline', here: 'applied' })
})

test('a proxy that says nothing in time is a timeout', async () => {
  const { control } = await withProxies(['p1'])
  const answer = control.call<Reload>('POST', path, { body: { wait: 0.2 } })
  await hinted(control)

  control.clock.nowMs += 200

  expect(outcomes((await answer).body)).toEqual({ p1: 'timeout' })
})

test('a host that cannot park answers at once', async () => {
  const { control } = await withProxies(['p1'], false)

  const { body } = await control.call<Reload>('POST', path, { body: { wait: 30 } })

  expect(outcomes(body)).toEqual({ p1: 'hinted' })
})

test('a wait of more than a minute is refused', async () => {
  const { control } = await withProxies([])

  expect(await control.call('POST', path, { body: { wait: 61 } })).toMatchObject({
    status: 422,
    body: { errors: [{ path: 'wait' }] },
  })
})
