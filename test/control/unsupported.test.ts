import { expect, test } from 'vitest'
import { ourKeys } from '../../shared/config/known-keys.ts'
import type { KnownKeys } from '../../shared/config/known-keys.ts'
import type { Written } from '../../shared/api.ts'
import { document, inProcessControl } from './in-process.ts'

async function fleetOf(proxies: Readonly<Record<string, KnownKeys | undefined>>) {
  const control = await inProcessControl()
  const token = await control.fleet()
  for (const [id, known_keys] of Object.entries(proxies)) {
    const hello = { boot: 'boot-1', agent_version: known_keys === undefined ? '0.1.0' : '0.2.0', listen: '' }
    const body = known_keys === undefined ? hello : { ...hello, body_formats: [1, 2], known_keys }
    const { status } = await control.call('POST', `/v1/fleets/demo/proxies/${id}/hello`, { token, body })
    expect(status).toBe(200)
  }
  const plan = async (given: object): Promise<Written['unsupported']> =>
    (await control.call<Written>('PUT', '/v1/fleets/demo/config?dry_run=true', { body: given })).body.unsupported
  return { control, plan }
}

test('a key that release 0.1.0 did not have is named for its proxies alone, by where it is written', async () => {
  const { plan } = await fleetOf({ old: undefined, young: ourKeys })
  const old = (...keys: string[]) => [{ proxy: 'old', agent_version: '0.1.0', keys }]

  expect(await plan(document())).toEqual([])
  expect(await plan(document({ isolation: 'strict' }))).toEqual(old('pools.app.users.web.isolation'))
  expect(await plan(document({}, { isolation: 'strict' }))).toEqual(old('defaults.isolation'))
  expect(await plan({ ...document(), general: { metrics_per_pool: 'none' } })).toEqual(old('general.metrics_per_pool'))
})

test('a key that is written with its default asks nothing of any proxy', async () => {
  const { plan } = await fleetOf({ old: undefined })

  expect(await plan(document({ isolation: 'standard' }))).toEqual([])
})

test('a value that another section replaces is not asked of any proxy', async () => {
  const { plan } = await fleetOf({ old: undefined })

  expect(await plan(document({ isolation: 'standard' }, { isolation: 'strict' }))).toEqual([])
})

test('what a proxy says that it knows counts, not its release', async () => {
  const pool = ourKeys.pool.filter((key) => key !== 'isolation')
  const { plan } = await fleetOf({ between: { ...ourKeys, pool }, later: { ...ourKeys, pool: [...pool, 'isolation'] } })

  expect(await plan(document({ isolation: 'strict' }))).toEqual([
    { proxy: 'between', agent_version: '0.2.0', keys: ['pools.app.users.web.isolation'] },
  ])
})

test('a write says the same as its plan, and so does a rollback', async () => {
  const { control } = await fleetOf({ old: undefined })
  const strict = document({ isolation: 'strict' })
  const expected = [{ proxy: 'old', agent_version: '0.1.0', keys: ['pools.app.users.web.isolation'] }]

  const first = await control.apply<Written>(strict)
  await control.apply(document())
  const back = await control.call<Written>('POST', '/v1/fleets/demo/rollback', { body: { to: 1 } })

  expect([first.body.unsupported, back.body.unsupported]).toEqual([expected, expected])
})
