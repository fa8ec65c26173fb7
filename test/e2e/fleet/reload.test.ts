/** A reload reaches every proxy, whether hints do or not. */
import { expect, test } from 'vitest'
import type { Proxy, Reload } from '../../../shared/api.ts'
import type { Postgres } from '../../support/postgres.ts'
import type { ControlProcess } from '../../support/processes.ts'
import { until } from '../../support/engine.ts'
import { fleet, startWorld } from './world.ts'

/** So slow that nothing a test sees can be the next poll. */
const slowPolls = { general: { poll_interval: '60s' } }

function document(postgres: Postgres, host = '127.0.0.1'): object {
  return {
    ...slowPolls,
    pools: {
      app: {
        database: 'postgres',
        servers: [{ host, port: postgres.port, role: 'primary' }],
        users: { app: { password: 'app' } },
      },
    },
  }
}

async function reload(control: ControlProcess): Promise<Record<string, string>> {
  const { body } = await control.call('POST', `/v1/fleets/${fleet}/reload`, { wait: 20 })
  return Object.fromEntries((body as Reload).proxies.map(({ id, outcome }) => [id, outcome]))
}

test('a proxy that hints cannot reach answers a reload at once, also the one right after it', async () => {
  const { control } = await startWorld({
    proxies: [{ id: 'hinted' }, { id: 'parked', hints: false }],
    document: (postgres) => document(postgres),
  })
  const startedAtMs = performance.now()

  const first = await reload(control)
  const second = await reload(control)

  expect([first, second]).toEqual([
    { hinted: 'applied', parked: 'applied' },
    { hinted: 'applied', parked: 'applied' },
  ])
  expect(performance.now() - startedAtMs).toBeLessThan(10_000)
})

test('a proxy that hints cannot reach says at a reload that it cannot run the version', async () => {
  const { control, postgres } = await startWorld({
    proxies: [{ id: 'parked', hints: false }],
    document: (database) => document(database),
  })
  await control.apply(fleet, document(postgres, 'no-such-host.invalid'))
  await until(async () => {
    const { body } = await control.call('GET', `/v1/fleets/${fleet}/proxies/parked`)
    return (body as Proxy).state === 'failed'
  })

  expect(await reload(control)).toEqual({ parked: 'failed' })
})
