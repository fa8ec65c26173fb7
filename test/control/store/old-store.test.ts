/** A store with rows in every table, as migration 0001 left it, is brought to the newest schema and used. */
import { readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import { readMigrations, storeFile } from '../../../control/node/sqlite-store.ts'
import { openSqlite } from '../../../control/store/better-sqlite3.ts'
import { migrate } from '../../../control/store/migrate.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { document, inProcessControl, lost, report } from '../in-process.ts'

/** The token of the proxies in it. */
const token = 'flp_ZIHhNVe6zyXNHvf_3uQKbegqYW_Re6wPtQNI2vlwGYw'

type Rows = Readonly<Record<string, readonly Record<string, unknown>[]>>

/** Tables that only say how the store came about. */
const aside: ReadonlySet<unknown> = new Set(['schema_migrations', 'guards', 'sqlite_sequence'])

function allRows(folder: string): Rows {
  const database = new Database(join(folder, storeFile), { readonly: true })
  const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all()
  const names = tables.filter((name) => !aside.has(name)) as string[]
  const rows = names.map((name) => [name, database.prepare(`SELECT * FROM ${name}`).all()] as const)
  database.close()
  return Object.fromEntries(rows) as Rows
}

async function oldStore(): Promise<string> {
  const folder = await tempFolder()
  const path = join(folder, storeFile)
  const port = openSqlite(path)
  await migrate(port, readMigrations().slice(0, 1), new Date('2026-11-23T19:00:00Z'))
  await port.close()
  const database = new Database(path)
  database.exec(readFileSync(new URL('made-with-0001.sql', import.meta.url), 'utf8'))
  database.close()
  return folder
}

test('no row of an old store is lost or changed, and what is new is empty', async () => {
  const folder = await oldStore()
  const before = allRows(folder)

  await inProcessControl({ folder })
  const after = allRows(folder)

  const kept = Object.entries(before).map(([table, rows]) => [
    table,
    rows.map((row) => expect.objectContaining(row) as unknown),
  ])
  expect(Object.keys(before).filter((table) => before[table]?.length === 0)).toEqual([])
  const newTables = Object.keys(after).filter((table) => !(table in before))
  const none = Object.fromEntries(newTables.map((table) => [table, []]))
  expect(after).toEqual({ ...Object.fromEntries(kept), ...none })
  const news = Object.entries(after).flatMap(([table, rows]) =>
    rows.flatMap((row) => Object.entries(row).filter(([column]) => !(column in (before[table]?.[0] ?? {})))),
  )
  expect(news.length).toBeGreaterThan(0)
  // Events are numbered in the order in which they came, and no fleet has orders; everything else is empty.
  expect(news.filter(([, value]) => value !== null && value !== 0)).toEqual(
    after['disconnects']!.map((_, index) => ['arrival', index + 1]),
  )
})

test('an old store is copied before it is migrated, for its owner alone, and a new one is not', async () => {
  const folder = await oldStore()
  const before = allRows(folder)
  const copy = `${storeFile}.before-0002_peers`

  await inProcessControl({ folder })
  await inProcessControl({ folder })
  const fresh = await tempFolder()
  await inProcessControl({ folder: fresh })

  expect(readdirSync(folder).filter((name) => name.includes('before'))).toEqual([copy])
  expect(statSync(join(folder, copy)).mode & 0o777).toBe(0o600)
  renameSync(join(folder, copy), join(fresh, storeFile))
  for (const journal of ['-wal', '-shm']) rmSync(join(fresh, `${storeFile}${journal}`), { force: true })
  expect(allRows(fresh)).toEqual(before)
})

test('a store that is opened again after its migration is the same', async () => {
  const folder = await oldStore()
  await inProcessControl({ folder })
  const once = allRows(folder)

  await inProcessControl({ folder })

  expect(allRows(folder)).toEqual(once)
})

test('its versions, documents and bodies are read, and can be returned to and gone on from', async () => {
  const control = await inProcessControl({ folder: await oldStore() })
  const get = async <Body>(path: string): Promise<Body> => (await control.call<Body>('GET', path)).body

  const fleets = await get<{ fleets: { name: string; version: number }[] }>('/v1/fleets')
  const versions = await get<{ versions: { version: number; rollback_of: number | null; message: string | null }[] }>(
    '/v1/fleets/demo/versions',
  )
  const diff = await control.call('GET', '/v1/fleets/demo/versions/2/diff?against=1')
  const current = await control.call<object>('GET', '/v1/fleets/demo/config')
  const rollback = await control.call('POST', '/v1/fleets/demo/rollback', { body: { to: 2 } })
  const next = await control.apply(document({ pool_size: 9 }))

  expect(fleets.fleets.map(({ name, version }) => [name, version])).toEqual([
    ['demo', 3],
    ['empty', 0],
  ])
  expect(versions.versions.map(({ version, rollback_of, message }) => [version, rollback_of, message])).toEqual([
    [3, 1, 'back'],
    [2, null, null],
    [1, null, null],
  ])
  expect(diff.text).toContain('pool_size')
  expect(current.headers.get('etag')).toBe('"v3"')
  expect(current.text).toContain('10.0.0.1')
  expect(rollback).toMatchObject({ status: 201, body: { version: 4, rollback_of: 2 } })
  expect(next).toMatchObject({ status: 201, body: { version: 5 } })
  expect(control.faults).toEqual([])
})

test('its proxies come with their token, find manifest, bodies and secrets, and get numbers', async () => {
  const control = await inProcessControl({ folder: await oldStore() })
  const hello = { boot: 'boot-2', agent_version: '0.2.0', listen: '10.0.0.7:6432' }
  const peer = { host: '10.0.0.7', port: 6432 }
  const path = '/v1/fleets/demo'

  const manifest = await control.call<{ pools: { hash: string }[] }>('GET', `${path}/manifest`, { token })
  const bodies = await Promise.all(
    manifest.body.pools.map(async ({ hash }) => await control.call('GET', `${path}/pools/${hash}`, { token })),
  )
  const secret = await control.call<{ value: string }>('GET', `${path}/secrets/pools.app.users.web.password/1`, {
    token,
  })
  const greeted = [
    await control.call('POST', `${path}/proxies/proxy-b/hello`, { token, body: { ...hello, peer } }),
    await control.call('POST', `${path}/proxies/proxy-a/hello`, { token, body: hello }),
    await control.call('POST', `${path}/proxies/proxy-new/hello`, { token, body: { ...hello, peer } }),
  ]
  const peers = await control.call<{ peers: object[] }>('GET', `${path}/peers`, { token })

  expect(bodies.map(({ status }) => status)).toEqual([200])
  expect(secret.body.value).toBe('geheim')
  expect(greeted.map(({ status }) => status)).toEqual([200, 200, 200])
  expect(peers.body.peers).toEqual(
    expect.arrayContaining([
      { proxy: 'proxy-b', boot: 'boot-2', number: 1, address: peer },
      { proxy: 'proxy-a', boot: 'boot-2', number: 2, address: null },
      { proxy: 'proxy-new', boot: 'boot-2', number: 3, address: peer },
    ]),
  )
  expect(control.faults).toEqual([])
})

test('what its proxies have reported is shown, and their reports go on where they were', async () => {
  const control = await inProcessControl({ folder: await oldStore() })
  const path = '/v1/fleets/demo'
  const events = [lost('proxy-a-2'), lost('proxy-a-3')]
  const shown = await control.call<{ proxies: object[] }>('GET', `${path}/proxies`)
  const one = await control.call('GET', `${path}/proxies/proxy-a`)

  // The first of the two was told before.
  const reported = await control.call('POST', `${path}/proxies/proxy-a/reports`, {
    token,
    body: report(3, { boot: 'boot-1', seq: 2, events }),
  })
  const { body } = await control.call<{ disconnects: { id: string }[] }>('GET', `${path}/disconnects`)

  expect(shown.body.proxies).toHaveLength(3)
  expect(one).toMatchObject({
    status: 200,
    body: { id: 'proxy-a', applied: { epoch: 1, version: 3 }, agent_version: '0.1.0', region: 'ams' },
  })
  expect(reported).toMatchObject({ status: 200, body: { ack: 2 } })
  expect(body.disconnects.map(({ id }) => id).toSorted()).toEqual([
    'proxy-a-1',
    'proxy-a-2',
    'proxy-a-3',
    'proxy-b-1',
    'proxy-b-2',
  ])
  expect(control.faults).toEqual([])
})

test('a number that fits into no cancel key is taken back, and the proxy gets another one', async () => {
  const folder = await oldStore()
  const path = join(folder, storeFile)
  const port = openSqlite(path)
  await migrate(port, readMigrations().slice(0, 2), new Date('2026-11-25T19:00:00Z'))
  await port.close()
  const database = new Database(path)
  const number = database.prepare('UPDATE proxies SET number = ? WHERE id = ?')
  number.run(510, 'proxy-a')
  number.run(511, 'proxy-b')
  database.close()

  const control = await inProcessControl({ folder })
  const hello = { boot: 'boot-2', agent_version: '0.2.0', listen: '10.0.0.7:6432' }
  // So long after the last sign of them that they have ended.
  control.clock.nowMs += 3_600_000
  await control.call('POST', '/v1/fleets/demo/proxies/proxy-b/hello', { token, body: hello })
  await control.call('POST', '/v1/fleets/demo/proxies/proxy-a/hello', { token, body: hello })
  const peers = await control.call<{ peers: object[] }>('GET', '/v1/fleets/demo/peers', { token })

  expect(peers.body.peers).toEqual([
    { proxy: 'proxy-b', boot: 'boot-2', number: 1, address: null },
    { proxy: 'proxy-a', boot: 'boot-2', number: 510, address: null },
  ])
})
