import { expect, test } from 'vitest'
import type { Secrets, SecretWritten, Written } from '../../shared/api.ts'
import { document, inProcessControl } from './in-process.ts'
import type { InProcessControl } from './in-process.ts'

const path = 'pools.app.users.web.password'

async function put(control: InProcessControl, name: string, value: string) {
  return await control.call<SecretWritten>('PUT', `/v1/fleets/demo/secrets/${name}`, { body: { value } })
}

async function secretsOf(control: InProcessControl): Promise<Secrets['secrets']> {
  return (await control.call<Secrets>('GET', '/v1/fleets/demo/secrets')).body.secrets
}

test('a password in a document becomes a secret, named after its place', async () => {
  const control = await inProcessControl()
  await control.fleet()

  await control.apply(document())

  const { body } = await control.call('GET', '/v1/fleets/demo/config')
  expect(body).toMatchObject({ pools: { app: { users: { web: { password: { secret: path, version: 1 } } } } } })
  expect(await secretsOf(control)).toEqual([
    { name: path, version: 1, kind: 'plain', created_at: '2026-11-23T19:00:00.000Z', used_by: [{ path, version: 1 }] },
  ])
})

test('an equal password makes no new version of its secret, another one does', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await control.apply(document())

  await control.apply(document({ pool_size: 3 }))
  const same = await secretsOf(control)
  await control.apply(document({ password: 'neu' }))

  expect(same).toMatchObject([{ name: path, version: 1 }])
  expect(await secretsOf(control)).toMatchObject([{ name: path, version: 2 }])
})

test('verifiers are secrets too and keep their kind', async () => {
  const control = await inProcessControl()
  await control.fleet()

  await control.apply(document({ auth_type: 'md5', password: `md5${'0'.repeat(32)}`, server_password: '' }))

  expect(await secretsOf(control)).toMatchObject([{ name: path, kind: 'md5' }])
  const { body } = await control.call('GET', '/v1/fleets/demo/config')
  expect(body).toMatchObject({ pools: { app: { users: { web: { server_password: '' } } } } })
})

test('a former password is a secret like any other', async () => {
  const control = await inProcessControl()
  await control.fleet()

  await control.apply(document({ previous_password: 'alt', previous_password_until: '2030-01-01T00:00:00Z' }))

  const former = path.replace('password', 'previous_password')
  expect((await secretsOf(control)).map(({ name, used_by }) => [name, used_by])).toEqual([
    [path, [{ path, version: 1 }]],
    [former, [{ path: former, version: 1 }]],
  ])
  const { body } = await control.call('GET', '/v1/fleets/demo/config')
  expect(JSON.stringify(body)).not.toContain('alt')
})

test('a proxy of the fleet reads the value by name and version, and no cache may store it on the way', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())

  const answer = await control.call('GET', `/v1/fleets/demo/secrets/${path}/1`, { token })

  expect(answer).toMatchObject({ status: 200, body: { value: 'geheim' } })
  expect(answer.headers.get('cache-control')).toBe('no-store')
})

test('neither the operator nor a proxy of another fleet reads a value', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await control.apply(document())
  const other = await control.fleet('other')

  expect((await control.call('GET', `/v1/fleets/demo/secrets/${path}/1`)).status).toBe(403)
  expect((await control.call('GET', `/v1/fleets/demo/secrets/${path}/1`, { token: other })).status).toBe(404)
})

test('a secret that was made first can be named, and what names no version gets the newest', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await put(control, 'web', 'one')
  await put(control, 'web', 'two')

  await control.apply(document({ password: { secret: 'web' } }))

  const { body } = await control.call('GET', '/v1/fleets/demo/config')
  expect(body).toMatchObject({ pools: { app: { users: { web: { password: { secret: 'web', version: 2 } } } } } })
})

test('a new version of a secret says who still uses an older one, and an equal value makes none', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await put(control, 'web', 'one')
  await control.apply(document({ password: { secret: 'web' } }))

  const same = await put(control, 'web', 'one')
  const other = await put(control, 'web', 'two')

  expect(same).toMatchObject({ status: 200, body: { version: 1, created: false, older: [] } })
  expect(other).toMatchObject({ status: 201, body: { version: 2, created: true, older: [{ path, version: 1 }] } })
})

test('writing the configuration again with a bare reference moves it to the newest version and rebuilds the pool', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await put(control, 'web', 'one')
  await control.apply(document({ password: { secret: 'web' } }))
  await put(control, 'web', 'two')

  const { body } = await control.apply(document({ password: { secret: 'web' } }))

  expect(body).toMatchObject({ version: 2, plan: { rebuilt: [{ pool: 'app', user: 'web' }] } })
})

test('a rollback keeps the values of secrets in force and names them; as_of returns to those of that time', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await control.apply(document({ password: 'alt' }))
  await control.apply(document({ password: 'neu', pool_size: 9 }))

  const kept = await rollback(control, { to: 1 })
  const current = await control.call('GET', '/v1/fleets/demo/config')
  const back = await rollback(control, { to: 1, secrets: 'as_of' })

  expect(kept.body).toMatchObject({
    version: 3,
    plan: { retuned: [{ pool: 'app', user: 'web' }], rebuilt: [], secrets: [] },
    kept_secrets: [{ path, name: path, version: 2, as_of: 1 }],
  })
  expect(current.body).toMatchObject({ pools: { app: { users: { web: { password: { version: 2 } } } } } })
  expect(back.body).toMatchObject({
    version: 4,
    plan: { rebuilt: [{ pool: 'app', user: 'web' }], secrets: [{ path, name: path, before: 2, after: 1 }] },
    kept_secrets: [],
  })
})

test('in force is what was written last, even if its secret had a later value once', async () => {
  const control = await inProcessControl()
  await control.fleet()
  for (const [password, size] of [
    ['one', 1],
    ['two', 2],
    ['one', 3],
  ] as const)
    await control.apply(document({ password, pool_size: size }))

  const { body } = await rollback(control, { to: 2 })

  expect(body.kept_secrets).toEqual([{ path, name: path, version: 1, as_of: 2 }])
})

test('a value that was stored after the current version is in force for a rollback', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await put(control, 'web', 'one')
  await control.apply(document({ password: { secret: 'web' } }))
  await control.apply(document({ password: { secret: 'web' }, pool_size: 9 }))
  control.clock.nowMs += 1000
  await put(control, 'web', 'two')

  const { body } = await rollback(control, { to: 1 })

  expect(body).toMatchObject({
    kept_secrets: [{ path, name: 'web', version: 2, as_of: 1 }],
    plan: { secrets: [{ path, name: 'web', before: 1, after: 2 }] },
  })
})

test('a secret that the current version does not use has its newest value after a rollback', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await put(control, 'web', 'one')
  await control.apply(document({ password: { secret: 'web' } }))
  await put(control, 'web', 'two')
  await control.apply(document({ password: { env: 'WEB' } }))

  const { body } = await rollback(control, { to: 1 })

  expect(body.kept_secrets).toEqual([{ path, name: 'web', version: 2, as_of: 1 }])
})

async function rollback(control: InProcessControl, body: object) {
  return await control.call<Written>('POST', '/v1/fleets/demo/rollback', { body })
}

test('a verifier cannot be smuggled in as a server password through a secret', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await put(control, 'verifier', `md5${'0'.repeat(32)}`)

  const answer = await control.apply(document({ server_password: { secret: 'verifier' } }))

  expect(answer).toMatchObject({ status: 422, body: { errors: [{ path: 'pools.app.users.web.server_password' }] } })
})

test('a value or name that cannot be kept is refused without being quoted', async () => {
  const control = await inProcessControl()
  await control.fleet()

  const answers = [
    await put(control, 'web', 'geheim\u0000'),
    await put(control, 'a%20b', 'geheim'),
    await put(control, 'web', ''),
  ]

  expect(answers.map(({ status }) => status)).toEqual([422, 422, 422])
  expect(answers.map(({ text }) => text).join()).not.toContain('geheim')
})

test("a password whose place cannot be a secret's name is kept under a digest of its place", async () => {
  const control = await inProcessControl()
  await control.fleet()

  await control.apply({
    pools: { 'my.app': { servers: [{ host: 'h' }], users: { 'a b': { password: 'x' } } } },
  })

  const [secret] = await secretsOf(control)
  expect(secret?.name).toMatch(/^literal\.[0-9a-f]{32}$/)
  expect(secret?.used_by).toEqual([{ path: 'pools."my.app".users."a b".password', version: 1 }])
})

test('what the store keeps of a secret is sealed', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await control.apply(document({ password: 'a-password-to-look-for' }))

  const tables = ['versions', 'pool_bodies', 'secrets', 'fleets', 'tokens']
  const { db } = control.host.store
  const contents = await Promise.all(
    tables.map(async (table) => JSON.stringify(await db.values(`SELECT * FROM ${table}`))),
  )

  expect(contents[2]).toContain('v1.')
  expect(contents.join()).not.toContain('a-password-to-look-for')
})

test('many writers of one secret each get their own version', async () => {
  const control = await inProcessControl()
  await control.fleet()

  const answers = await Promise.all(['a', 'b', 'c', 'd'].map((value) => put(control, 'web', value)))

  expect(new Set(answers.map(({ body }) => body.version))).toEqual(new Set([1, 2, 3, 4]))
})

test('the password of auth_user is a secret too, be it written for all pools', async () => {
  const control = await inProcessControl()
  await control.fleet()
  const given = document({ auth_user: 'asker', auth_password: 'geheim eins' }) as { defaults?: object }

  const written = await control.apply({ ...given, defaults: { ...given.defaults, auth_password: 'geheim zwei' } })

  const secrets = (await secretsOf(control)).map(({ name }) => name)
  expect(secrets).toContain('defaults.auth_password')
  expect(secrets).toContain('pools.app.users.web.auth_password')
  expect(JSON.stringify([written, await control.call('GET', '/v1/fleets/demo/config')])).not.toContain('geheim eins')
})
