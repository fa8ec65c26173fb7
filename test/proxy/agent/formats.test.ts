/** A proxy whose control begins, or ceases, to offer the compact format while it runs, and starts from either on disk. */
import { join } from 'node:path'
import { readFile, writeFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { firstRelease } from '../../../shared/config/first-release.ts'
import { ourKeys } from '../../../shared/config/known-keys.ts'
import { bodyFormatHeader, type HelloRequest } from '../../../shared/wire.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { ScriptedAgent } from './scripted-agent.ts'
import { ScriptedControl } from './scripted-control.ts'
import { until } from './until.ts'

const toml = (poolSize: number): string => `
  [pools.app]
  pool_size = ${poolSize}
  servers = [{ host = "127.0.0.1", port = 5432 }]
  [pools.app.users.web]
  password = { secret = "web", version = 1 }
`

async function newFleet(offer: (control: ScriptedControl) => unknown) {
  const control = new ScriptedControl()
  await control.start()
  control.secrets.set('web@1', 'a secret word')
  offer(control)
  const source = {
    kind: 'control' as const,
    url: control.url,
    fleet: 'demo',
    token: 'flp_token',
    stateFolder: join(await tempFolder(), 'state'),
    proxyId: 'one',
  }
  const proxy = new ScriptedAgent({ source })
  return { control, source, proxy, file: join(source.stateFolder, 'last-known-good.json') }
}

/** Waits until it has applied that many versions. */
async function untilApplied(proxy: ScriptedAgent, count: number): Promise<void> {
  await until(`${count} versions are applied`, () => proxy.logged('version applied').length === count)
}

const poolOf = (proxy: ScriptedAgent) => proxy.engine.got('apply').at(-1)!.spec.pools[0]!

test('hello names formats and keys, and polls the format that control answered', async () => {
  const { control, proxy } = await newFleet((control) => {
    control.bodyFormat = 2
    control.offer(1, toml(5), 1, 2)
  })

  await proxy.agent.start()
  await proxy.applies(1)

  const said = JSON.parse(control.askedFor('/hello')[0]!.body) as HelloRequest
  expect(said).toMatchObject({ body_formats: [1, 2], known_keys: ourKeys })
  expect(control.askedFor('/manifest').map(({ headers }) => headers[bodyFormatHeader.toLowerCase()])).toContain('2')
  expect(poolOf(proxy)).toMatchObject({ settings: { poolSize: 5, poolMode: 'transaction' } })
  expect(poolOf(proxy)).not.toHaveProperty('offeredHash')
})

test('the running version in another format changes no pool, fetches no body, and is reported under its new hashes', async () => {
  const { control, proxy } = await newFleet((control) => control.offer(1, toml(5)))
  await proxy.agent.start()
  await untilApplied(proxy, 1)
  const before = poolOf(proxy)
  control.asked.length = 0

  const manifest = control.offer(1, toml(5), 1, 2)
  await proxy.agent.reload()
  const report = await until('it is reported', () => control.reports.find((one) => one.body_format === 2))
  const back = control.offer(1, toml(5))
  await proxy.agent.reload()
  await until('it is reported in the former one', () => control.reports.at(-1)?.body_format === 1)

  const line = { hash: manifest.pools[0]!.hash, desired_hash: manifest.pools[0]!.hash }
  expect(report).toMatchObject({ applied: { version: 1 }, error: null, pools: [line] })
  expect(control.reports.at(-1)).toMatchObject({ error: null, pools: [{ hash: back.pools[0]!.hash }] })
  expect(proxy.engine.got('apply').map(({ force }) => force)).toEqual([false, true, true])
  expect(poolOf(proxy)).toMatchObject({ hash: before.hash, connectHash: before.connectHash })
  expect(control.asked.filter(({ path }) => path.includes('/pools/'))).toEqual([])
})

test('another content under the running position is refused in the same format', async () => {
  const { control, proxy } = await newFleet((control) => control.offer(1, toml(5)))
  await proxy.agent.start()
  await untilApplied(proxy, 1)
  control.next('/manifest', { status: 200, headers: { etag: '"another"' }, body: control.offer(1, toml(6)) })

  expect(await proxy.agent.reload()).toContain('(older_position)')
})

test('a key that a pool does not name has its default, as a body of a release that did not know it', async () => {
  const { proxy } = await newFleet((control) => control.offer(1, toml(5)))

  await proxy.agent.start()
  await proxy.applies(1)

  expect('isolation' in firstRelease.pool).toBe(false)
  expect(poolOf(proxy).settings.isolation).toBe('standard')
})

test('what is on disk has full bodies, and a start from it reports the hashes that control offered', async () => {
  const { control, source, proxy, file } = await newFleet((control) => {
    control.bodyFormat = 2
    control.offer(1, toml(5), 1, 2)
  })
  await proxy.agent.start()
  await proxy.applies(1)
  await until('it is kept', () => proxy.agent.notReady === null)
  await proxy.agent.stop('now')
  const kept = JSON.parse(await readFile(file, 'utf8')) as {
    manifest: { body_format?: number; pools: { hash: string }[] }
    bodies: Record<string, object>
  }
  control.asked.length = 0
  control.reports.length = 0

  const again = new ScriptedAgent({ source })
  await again.agent.start()
  await again.applies(1)
  const report = await until('it is reported', () => control.reports.find((one) => one.applied !== null))

  expect(kept.manifest).not.toHaveProperty('body_format')
  expect(Object.keys(kept.bodies[kept.manifest.pools[0]!.hash]!)).toEqual(
    expect.arrayContaining(Object.keys(firstRelease.pool)),
  )
  expect(report.pools[0]!.hash).toBe(report.pools[0]!.desired_hash)
  expect(control.asked.filter(({ path }) => path.includes('/pools/'))).toEqual([])
  expect(control.askedFor('/manifest')[0]?.headers['if-none-match']).toBe('"e1.v1.f2"')
})

test.each([
  ['in a format of a later release', { body_format: 7 }],
  ['in a form of a later release', { pools: 'elsewhere' }],
])('without control, a proxy starts from full bodies beside a manifest %s', async (_, part) => {
  const { control, source, proxy, file } = await newFleet((control) => {
    control.bodyFormat = 2
    control.offer(1, toml(5), 1, 2)
  })
  await proxy.agent.start()
  await proxy.applies(1)
  await until('it is kept', () => proxy.agent.notReady === null)
  await proxy.agent.stop('now')
  await control.stop()
  const kept = JSON.parse(await readFile(file, 'utf8')) as { offered: object }
  Object.assign(kept.offered, part)
  await writeFile(file, JSON.stringify(kept))

  const again = new ScriptedAgent({ source })
  await again.agent.start()
  await again.applies(1)

  expect(poolOf(again).settings.poolSize).toBe(5)
})

test('a last-known-good that this proxy cannot run does not keep it from asking control for the version', async () => {
  const { source, proxy, file } = await newFleet((control) => control.offer(1, toml(5)))
  await proxy.agent.start()
  await proxy.applies(1)
  await until('it is kept', () => proxy.agent.notReady === null)
  await proxy.agent.stop('now')
  // As of a later release: the general part has a key that this one does not know.
  const kept = JSON.parse(await readFile(file, 'utf8')) as { manifest: { general: { settings: object } } }
  Object.assign(kept.manifest.general.settings, { key_of_the_next_release: 1 })
  await writeFile(file, JSON.stringify(kept))

  const again = new ScriptedAgent({ source })
  await again.agent.start()
  await again.applies(1)

  expect(again.logged('version rejected; the running version stays')[0]?.fields).toMatchObject({
    code: 'unsupported_body',
    reason: expect.stringContaining('general.key_of_the_next_release') as string,
  })
})

test.each([
  ['a format of a later release', { body_format: 7 }, 'body format 7 is unknown'],
  [
    'a right at the console of a later release',
    { general: { settings: {}, console_users: [{ user: 'a', right: 'owner', password: null }] } },
    'general.console_users.0.right',
  ],
  [
    'a reference to a secret of a later release',
    { general: { settings: {}, console_users: [{ user: 'a', right: 'admin', password: { vault: 'x' } }] } },
    'general.console_users.0.password',
  ],
  ['a value of a later release', { general: { settings: { workers: [1, 2] }, console_users: [] } }, 'general.workers'],
])('%s is refused with a reason, and the running version stays', async (_, part, reason) => {
  const { control, proxy } = await newFleet((control) => control.offer(1, toml(5)))
  await proxy.agent.start()
  await proxy.applies(1)

  control.offerManifest({ ...control.offer(2, toml(6)), ...part })
  const error = await proxy.agent.reload()

  expect(error).toContain(reason)
  expect(error).toContain('(unsupported_body)')
  expect(proxy.agent.notReady).toBeNull()
})

test('fields of a later release in a manifest and in the answer to hello are passed over', async () => {
  const { control, proxy } = await newFleet((control) => control.offer(1, toml(5)))
  const manifest = control.offer(1, toml(5))
  control.offerManifest(Object.assign({}, manifest, { ties: { app: 'hibernate' } }))

  await proxy.agent.start()
  await proxy.applies(1)

  expect(proxy.log.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([])
})
