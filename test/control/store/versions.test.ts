import { expect, test } from 'vitest'
import { keepDisconnects, newestArrival, pageDisconnects } from '../../../control/store/disconnects.ts'
import { GuardFailed } from '../../../control/store/port.ts'
import { appendVersion, findVersion } from '../../../control/store/versions.ts'
import { document, inProcessControl, lost } from '../in-process.ts'

test('a version that is not the next one is refused as a whole', async () => {
  const { host, ...control } = await withVersion()
  const row = (await findVersion(host.store, 'demo', 1))!
  const offered = [{ format: 1, manifest: '', bodies: [{ hash: 'f'.repeat(64), body: '{}' }] }]

  const skipping = appendVersion(host.store, {
    row: { ...row, version: 3 },
    poll_interval_ms: 1,
    offered,
    secrets: [],
  })

  await expect(skipping).rejects.toBeInstanceOf(GuardFailed)
  expect(await findVersion(host.store, 'demo', 3)).toBeUndefined()
  expect((await control.call('GET', '/v1/fleets/demo')).body).toMatchObject({ version: 1 })
})

test('a document that means something else since an upgrade is a change when it is written again', async () => {
  const { host, call } = await withVersion()
  const row = (await findVersion(host.store, 'demo', 1))!
  const manifest = '"body_format":2,"pools":[],"general":{"settings":{},"console_users":[]}}'
  const offered = [{ format: 2, manifest, bodies: [] }]
  await appendVersion(host.store, { row: { ...row, version: 2 }, poll_interval_ms: 1, offered, secrets: [] })

  const answer = await call('PUT', '/v1/fleets/demo/config', { body: document(), headers: { 'if-match': '"v2"' } })

  expect(answer).toMatchObject({ status: 201, body: { version: 3, content_hash: row.content_hash } })
})

test('a page of events holds nothing that arrived after it was begun', async () => {
  const { host } = await withVersion()
  const keep = async (id: string) =>
    await host.store.write(keepDisconnects(host.store, 'demo', 'p1', [lost(id)], '2026-11-23T19:00:00.000Z'))
  await keep('before')
  const until = await newestArrival(host.store, 'demo')
  await keep('after')

  const page = await pageDisconnects(host.store, 'demo', {}, { until, cursor: undefined, limit: 10 })

  expect(page.map(({ id }) => id)).toEqual(['before'])
})

async function withVersion() {
  const control = await inProcessControl()
  await control.fleet()
  await control.apply(document())
  return { host: control.host, call: control.call.bind(control) }
}
