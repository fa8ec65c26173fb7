import { expect, test } from 'vitest'
import type { OperationResult } from '../../shared/api.ts'
import { poolOperations } from '../../shared/operations.ts'
import { document, inProcessControl } from './in-process.ts'

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

test.for(poolOperations)('%s is sent to every proxy, and each has its own outcome', async (operation) => {
  const { control } = await withProxies()

  const { status, body } = await control.call<OperationResult>('POST', `/v1/fleets/demo/pools/app/${operation}`)

  expect(status).toBe(200)
  expect(body).toEqual({
    pool: 'app',
    operation,
    proxies: [
      { id: 'busy', outcome: 'under_way', paused: true, servers: 3, message: null },
      { id: 'done', outcome: 'done', paused: true, servers: 0, message: null },
      { id: 'gone', outcome: 'unreachable', paused: null, servers: null, message: null },
      { id: 'hidden', outcome: 'unreachable', paused: null, servers: null, message: null },
      { id: 'stray', outcome: 'unknown_pool', paused: false, servers: 0, message: null },
    ],
  })
  expect(control.operations.map(({ target }) => target.proxy)).toEqual(['busy', 'done', 'gone', 'stray'])
  expect(control.operations[0]?.request).toEqual({ fleet: 'demo', operation, pool: 'app' })
})

test('a proxy token allows no operation, and an unknown fleet has none', async () => {
  const { control, token } = await withProxies()

  const refused = await control.call('POST', '/v1/fleets/demo/pools/app/pause', { token })
  const nowhere = await control.call('POST', '/v1/fleets/nowhere/pools/app/pause')

  expect([refused.status, nowhere.status]).toEqual([403, 404])
  expect(control.operations).toEqual([])
})
