import { expect, test } from 'vitest'
import type { Diff, Written } from '../../shared/api.ts'
import { document, inProcessControl } from './in-process.ts'
import type { InProcessControl } from './in-process.ts'

/** Fleet `demo` with as many versions, each of another pool_size. */
async function withVersions(count: number): Promise<InProcessControl> {
  const control = await inProcessControl()
  await control.fleet()
  for (let size = 1; size <= count; size += 1) await control.apply(document({ pool_size: size }))
  return control
}

test('versions are listed newest first, a page at a time', async () => {
  const control = await withVersions(5)
  const numbers: number[] = []

  let next: string | null = ''
  while (next !== null) {
    const cursor: string = next === '' ? '' : `&cursor=${next}`
    const { body } = await control.call<{ versions: { version: number }[]; next: string | null }>(
      'GET',
      `/v1/fleets/demo/versions?limit=2${cursor}`,
    )
    numbers.push(...body.versions.map(({ version }) => version))
    next = body.next
  }

  expect(numbers).toEqual([5, 4, 3, 2, 1])
})

test('an old version keeps its document', async () => {
  const control = await withVersions(2)

  const { body } = await control.call('GET', '/v1/fleets/demo/versions/1')

  expect(body).toMatchObject({
    version: 1,
    pools: 1,
    rollback_of: null,
    document: { pools: { app: { users: { web: { pool_size: 1 } } } } },
  })
})

test('a diff names each path that changed and what it means for the pools', async () => {
  const control = await withVersions(1)
  await control.apply({
    defaults: { idle_timeout: '1m' },
    pools: {
      app: {
        servers: [{ host: '10.0.0.1' }, { host: '10.0.0.2', role: 'replica' }],
        users: { web: { password: 'geheim' } },
      },
    },
  })

  const { body } = await control.call<Diff>('GET', '/v1/fleets/demo/versions/2/diff')

  expect(body).toMatchObject({ from: 1, to: 2, plan: { rebuilt: [{ pool: 'app', user: 'web' }] } })
  expect(body.changes).toEqual([
    { path: 'defaults.idle_timeout', after: '1m' },
    { path: 'pools.app.servers[1].host', after: '10.0.0.2' },
    { path: 'pools.app.servers[1].port', after: 5432 },
    { path: 'pools.app.servers[1].role', after: 'replica' },
    { path: 'pools.app.users.web.pool_size', before: 1 },
  ])
})

test('a diff can go against any version, backwards and from nothing', async () => {
  const control = await withVersions(3)
  const path = 'pools.app.users.web.pool_size'

  const back = await control.call<Diff>('GET', '/v1/fleets/demo/versions/1/diff?against=3')
  const first = await control.call<Diff>('GET', '/v1/fleets/demo/versions/1/diff')

  expect(back.body.changes).toEqual([{ path, before: 3, after: 1 }])
  expect(first.body).toMatchObject({ from: 0, plan: { added: [{ pool: 'app', user: 'web' }] } })
  expect(first.body.changes.map((change) => change.path)).toContain(path)
})

test('no version, diff or answer holds a password', async () => {
  const control = await inProcessControl()
  await control.fleet()
  const texts = [(await control.apply(document({ password: 'geheim-1', server_password: 'geheim-2' }))).text]
  texts.push((await control.apply(document({ password: 'geheim-3' }))).text)

  for (const path of [
    '/config',
    '/versions',
    '/versions/1',
    '/versions/2',
    '/versions/2/diff',
    '/secrets',
    '/manifest',
  ]) {
    texts.push((await control.call('GET', `/v1/fleets/demo${path}`)).text)
  }

  expect(texts.filter((text) => text.includes('geheim'))).toEqual([])
})

test('a version or path that does not exist is not found', async () => {
  const control = await withVersions(1)

  const paths = ['versions/2', 'versions/0', 'versions/x', 'versions/1.5', 'versions/1/diff?against=7', 'nothing']
  const answers = await Promise.all(paths.map((path) => control.call('GET', `/v1/fleets/demo/${path}`)))

  expect(answers.map(({ status }) => status)).toEqual(paths.map(() => 404))
  expect(answers.map(({ headers }) => headers.get('content-type'))).toEqual(paths.map(() => 'application/problem+json'))
})

test('a rollback is a new version with the old content', async () => {
  const control = await withVersions(3)
  const before = (await control.call<{ content_hash: string }>('GET', '/v1/fleets/demo/versions/1')).body

  const answer = await control.call<Written>('POST', '/v1/fleets/demo/rollback', { body: { to: 1, message: 'back' } })

  expect(answer.status).toBe(201)
  expect(answer.body).toMatchObject({ version: 4, rollback_of: 1, content_hash: before.content_hash })
  expect(answer.body.plan.retuned).toEqual([{ pool: 'app', user: 'web' }])
  expect((await control.call('GET', '/v1/fleets/demo/versions/4')).body).toMatchObject({
    rollback_of: 1,
    message: 'back',
  })
})

test('a rollback to what is current makes no version', async () => {
  const control = await withVersions(2)
  await control.call('POST', '/v1/fleets/demo/rollback', { body: { to: 1 } })

  const again = await control.call<Written>('POST', '/v1/fleets/demo/rollback', { body: { to: 1 } })

  expect(again).toMatchObject({ status: 200, body: { version: 3, created: false, rollback_of: 1 } })
})

test('a dry run of a rollback gives the plan and stores nothing', async () => {
  const control = await withVersions(2)

  const { status, body } = await control.call<Written>('POST', '/v1/fleets/demo/rollback?dry_run=true', {
    body: { to: 1 },
  })

  expect([status, body.version, body.created, body.dry_run]).toEqual([200, 3, false, true])
  expect(body.plan.retuned).toEqual([{ pool: 'app', user: 'web' }])
  expect((await control.call('GET', '/v1/fleets/demo')).body).toMatchObject({ version: 2 })
})

test('a rollback with If-Match is refused when another version is current', async () => {
  const control = await withVersions(2)
  const roll = async (ifMatch: string): Promise<{ status: number; body: unknown }> =>
    await control.call('POST', '/v1/fleets/demo/rollback', { body: { to: 1 }, headers: { 'if-match': ifMatch } })

  expect(await roll('"v1"')).toMatchObject({ status: 412, body: { current: 'v2' } })
  expect(await roll('v2')).toMatchObject({ status: 400 })
  expect(await roll('"v2"')).toMatchObject({ status: 201, body: { version: 3 } })
})

test('a rollback to a version that does not exist, or to none, is refused', async () => {
  const control = await withVersions(1)

  expect((await control.call('POST', '/v1/fleets/demo/rollback', { body: { to: 9 } })).status).toBe(404)
  expect(await control.call('POST', '/v1/fleets/demo/rollback', { body: {} })).toMatchObject({
    status: 422,
    body: { errors: [{ path: 'to' }] },
  })
  const broken = await control.call('POST', '/v1/fleets/demo/rollback', {
    headers: { 'content-type': 'application/json' },
  })
  expect(broken.status).toBe(400)
})

test('many rollbacks and writes at once leave whole versions with rising numbers', async () => {
  const control = await withVersions(2)

  const answers = await Promise.all(
    Array.from({ length: 6 }, (_, index) =>
      control.call<Written>('POST', '/v1/fleets/demo/rollback', { body: { to: 1 + (index % 2) } }),
    ),
  )

  expect(answers.filter(({ status }) => status > 201)).toEqual([])
  const { body } = await control.call<{ versions: { version: number }[] }>('GET', '/v1/fleets/demo/versions')
  const numbers = body.versions.map(({ version }) => version)
  expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, index) => numbers.length - index))
})
