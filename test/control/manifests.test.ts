/** What proxies of each body format are offered, of versions made today and of those that release 0.1.0 has made. */
import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { desiredHashesOf } from '../../control/manifests.ts'
import { appendVersion, findManifest, findVersion, listPoolBodies } from '../../control/store/versions.ts'
import { effectiveOf } from '../../shared/config/body-format.ts'
import { newestFormat } from '../../shared/config/formats.ts'
import { ourKeys } from '../../shared/config/known-keys.ts'
import { poolHashes } from '../../shared/hash.ts'
import { bodyFormatHeader, manifestSchema } from '../../shared/wire.ts'
import type { HelloResponse, Manifest } from '../../shared/wire.ts'
import { document, inProcessControl } from './in-process.ts'
import type { Answer, InProcessControl } from './in-process.ts'

const path = '/v1/fleets/demo'
const compact = { [bodyFormatHeader]: '2' }

async function poll(control: InProcessControl, token: string, headers = {}): Promise<Answer<Manifest>> {
  return await control.call<Manifest>('GET', `${path}/manifest`, { token, headers })
}

async function fleetWith(given: object) {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(given)
  return { control, token }
}

/** Makes fleet `old` with the version of fleet `demo`, as an older release would have: in format 1 alone. */
async function madeBefore(control: InProcessControl): Promise<void> {
  const row = await findVersion(control.host.store, 'demo', 1)
  await control.call('PUT', '/v1/fleets/old')
  const bodies = await bodiesOf(control, row!.manifest)
  await appendVersion(control.host.store, {
    row: { ...row!, fleet: 'old' },
    poll_interval_ms: 5000,
    offered: [{ format: 1, manifest: row!.manifest, bodies }],
    secrets: [],
  })
}

async function bodiesOf(control: InProcessControl, manifest: string) {
  const hashes = (JSON.parse(`{${manifest}`) as Manifest).pools.map(({ hash }) => hash)
  const found = await listPoolBodies(control.host.store, 'demo', hashes)
  return hashes.map((hash) => ({ hash, body: found.get(hash)! }))
}

async function oldToken(control: InProcessControl): Promise<string> {
  const { body } = await control.call<{ token: string }>('POST', '/v1/fleets/old/tokens', { body: { name: 'test' } })
  return body.token
}

test('hello agrees on the newest format that both sides know', async () => {
  const { control, token } = await fleetWith(document())
  const hello = async (over: object) => {
    const body = { boot: 'boot-1', agent_version: '0.1.0', listen: '', ...over }
    return (await control.call<HelloResponse>('POST', `${path}/proxies/p1/hello`, { token, body })).body.body_format
  }

  expect(await hello({})).toBe(1)
  expect(await hello({ body_formats: [1, 2] })).toBe(2)
  expect(await hello({ body_formats: [1, 2, 3], known_keys: ourKeys })).toBe(2)
})

test('without a format a poll gets format 1, of which manifest and ETag say nothing', async () => {
  const { control, token } = await fleetWith(document())

  const { body, headers } = await poll(control, token)

  expect(body).not.toHaveProperty('body_format')
  expect(headers.get('etag')).toMatch(/^"e1\.v1\.[0-9a-f]{16}"$/)
})

test('in the compact format there is another ETag, and bodies without the keys that are at their defaults', async () => {
  const { control, token } = await fleetWith(document({ pool_size: 7 }))

  const { body, headers, text } = await poll(control, token, compact)
  const [line] = body.pools
  const pool = await control.call<Record<string, unknown>>('GET', `${path}/pools/${line!.hash}`, { token })

  expect(manifestSchema.parse(JSON.parse(text))).toEqual(body)
  expect(body).toMatchObject({ epoch: 1, version: 1, body_format: 2, general: { settings: {}, console_users: [] } })
  expect(headers.get('etag')).toMatch(/^"e1\.v1\.[0-9a-f]{16}\.f2"$/)
  expect(createHash('sha256').update(pool.text).digest('hex')).toBe(line!.hash)
  expect(pool.body).toMatchObject({ pool: 'app', user: 'web', pool_size: 7 })
  expect(pool.body).not.toHaveProperty('pool_mode')
  expect(poolHashes(effectiveOf(pool.body))).toEqual({ hash: line!.hash, connect_hash: line!.connect_hash })
  const again = await poll(control, token, { ...compact, 'if-none-match': headers.get('etag')! })
  expect(again.status).toBe(304)
})

test('a proxy that was offered one format gets the version once more when it polls for another one', async () => {
  const { control, token } = await fleetWith(document())
  const first = await poll(control, token)

  const second = await poll(control, token, { ...compact, 'if-none-match': first.headers.get('etag')! })
  const back = await poll(control, token, { 'if-none-match': second.headers.get('etag')! })

  expect([second.status, back.status]).toEqual([200, 200])
  expect(back.text).toBe(first.text)
})

test('a format of a later release gets the newest one that is known', async () => {
  const { control, token } = await fleetWith(document())

  expect((await poll(control, token, { [bodyFormatHeader]: '7' })).body.body_format).toBe(newestFormat)
  expect((await poll(control, token, { [bodyFormatHeader]: 'x' })).body).not.toHaveProperty('body_format')
})

test('a version of before the format is offered in it, made once for all that ask at a time, and kept', async () => {
  const { control } = await fleetWith(document({ pool_size: 7 }))
  await madeBefore(control)
  const token = await oldToken(control)
  const { store } = control.host
  const ask = async () => await control.call<Manifest>('GET', '/v1/fleets/old/manifest', { token, headers: compact })
  expect(await findManifest(store, 'old', 1, 2)).toBeUndefined()

  const answers = await Promise.all(Array.from({ length: 20 }, ask))

  const [{ text, body }] = answers as [Answer<Manifest>]
  expect(answers.filter((answer) => answer.status !== 200 || answer.text !== text)).toEqual([])
  const orders = '"operations":{"number":0,"pools":[]},'
  expect(text).toBe(`{"epoch":1,"version":1,${orders}${await findManifest(store, 'old', 1, 2)}`)
  const pool = await control.call('GET', `/v1/fleets/old/pools/${body.pools[0]!.hash}`, { token })
  expect(pool.text).toContain('"pool_size":7')
  expect((await ask()).text).toBe(text)
  expect(control.faults).toEqual([])
})

test('the hashes that proxies should run are those of their format', async () => {
  const { control, token } = await fleetWith(document())
  const row = (await findVersion(control.host.store, 'demo', 1))!

  expect(await desiredHashesOf(control.host.store, row, 1)).toEqual((await poll(control, token)).body.pools)
  expect(await desiredHashesOf(control.host.store, row, 2)).toEqual((await poll(control, token, compact)).body.pools)
})

test('the document of a version of before the format is no change when it is written again', async () => {
  const { control } = await fleetWith(document({ password: { env: 'WEB' }, pool_size: 7 }))
  await madeBefore(control)
  const { body: stored } = await control.call<object>('GET', '/v1/fleets/old/config')

  const written = await control.call('PUT', '/v1/fleets/old/config', {
    body: stored,
    headers: { 'if-match': '"v1"' },
  })

  expect(written).toMatchObject({
    status: 200,
    body: { version: 1, created: false, plan: { added: [], rebuilt: [], retuned: [], kept: [{ pool: 'app' }] } },
  })
})

test('a version of before shared servers keeps the values of its users, and the plan says what writing it again changes', async () => {
  const servers = [{ host: '10.0.0.1' }]
  const other = { password: { env: 'OTHER' }, server_user: 'web', pool_size: 3 }
  const users = { web: { password: { env: 'WEB' } }, other }
  const given = { pools: { app: { servers, server_password: { env: 'SERVER' }, users } } }
  const { control } = await fleetWith(given)
  await madeBefore(control)
  const token = await oldToken(control)

  const manifest = await control.call<Manifest>('GET', '/v1/fleets/old/manifest', { token, headers: compact })
  const line = manifest.body.pools.find(({ user }) => user === 'other')!
  const pool = await control.call('GET', `/v1/fleets/old/pools/${line.hash}`, { token })
  const planned = await control.call('PUT', '/v1/fleets/old/config?dry_run=true', { body: given })

  expect(pool.body).toMatchObject({ user: 'other', pool_size: 3 })
  expect(planned.body).toMatchObject({
    plan: { retuned: [{ pool: 'app', user: 'other' }], kept: [{ pool: 'app', user: 'web' }], rebuilt: [] },
  })
})
