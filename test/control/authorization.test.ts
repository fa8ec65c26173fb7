import { expect, test, vi } from 'vitest'
import type { Tokens } from '../../shared/api.ts'
import { document, inProcessControl } from './in-process.ts'
import type { InProcessControl } from './in-process.ts'

interface Operation {
  readonly method: string
  readonly path: string
  readonly security: string[]
}

/** Every operation the API describes, with names filled in. */
async function operations(control: InProcessControl): Promise<Operation[]> {
  const { body } = await control.call<{
    paths: Record<string, Record<string, { security?: Record<string, unknown>[] }>>
  }>('GET', '/openapi.json', { token: null })
  return Object.entries(body.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, { security }]) => ({
      method: method.toUpperCase(),
      path: path
        .replace('{fleet}', 'demo')
        .replace('{version}', '1')
        .replaceAll(/\{\w+\}/g, 'x'),
      security: (security ?? [{ missing: [] }]).flatMap((one) => Object.keys(one)),
    })),
  )
}

test('every call under /v1 is for the operator or for proxies, and all others need no token', async () => {
  const control = await inProcessControl()

  const all = await operations(control)

  expect(all.filter(({ path }) => path.startsWith('/v1/')).length).toBeGreaterThanOrEqual(20)
  const rightOf = ({ path }: Operation) => (path.startsWith('/v1/') ? ['operator', 'proxy'] : [''])
  expect(all.filter((one) => !rightOf(one).includes(one.security.join()))).toEqual([])
})

test('no token, a wrong token and a token of the other kind are refused by every call', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  const answers: unknown[] = []
  const expected: unknown[] = []

  for (const { method, path, security } of (await operations(control)).filter(({ path }) => path.startsWith('/v1/'))) {
    const right = security.join()
    const body = method === 'GET' || method === 'DELETE' ? {} : { body: {} }
    const bare = await control.call(method, path, { token: null, ...body })
    const wrong = await control.call(method, path, { token: 'wrong-token', ...body })
    const other = await control.call(method, path, { ...(right === 'operator' ? { token } : {}), ...body })
    answers.push([method, path, bare.status, bare.headers.get('www-authenticate'), wrong.status, other.status])
    expected.push([method, path, 401, 'Bearer realm="flotilla"', 401, 403])
  }

  expect(answers).toEqual(expected)
})

test("a proxy's token opens its own fleet only, and what is closed looks as if it were not there", async () => {
  const control = await inProcessControl()
  await control.fleet()
  await control.apply(document())
  const other = await control.fleet('other')

  const foreign = await control.call('GET', '/v1/fleets/demo/manifest', { token: other })
  const absent = await control.call('GET', '/v1/fleets/none/manifest', { token: other })

  expect(foreign.status).toBe(404)
  expect(foreign.text).toBe(absent.text)
})

test('a token is shown once, kept as its digest, and of no use after it was revoked', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  const [{ id }] = (await control.call<Tokens>('GET', '/v1/fleets/demo/tokens')).body.tokens as [
    Tokens['tokens'][number],
  ]
  const stored = JSON.stringify(await control.host.store.db.values('SELECT * FROM tokens'))
  const before = await control.call('GET', '/v1/fleets/demo/manifest', { token })

  const revoked = await control.call('DELETE', `/v1/fleets/demo/tokens/${id}`)
  const after = await control.call('GET', '/v1/fleets/demo/manifest', { token })

  expect(token).toMatch(/^flp_[\w-]{43}$/)
  expect(stored).not.toContain(token)
  expect([before.status, revoked.status, after.status]).toEqual([204, 204, 401])
  const { body, text } = await control.call<Tokens>('GET', '/v1/fleets/demo/tokens')
  expect(text).not.toContain(token)
  expect(body.tokens).toEqual([
    { id, name: 'test', created_at: '2026-11-23T19:00:00.000Z', revoked_at: '2026-11-23T19:00:00.000Z' },
  ])
})

test('revoking again changes nothing, and a token of another fleet cannot be revoked', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await control.fleet('other')
  const [{ id }] = (await control.call<Tokens>('GET', '/v1/fleets/demo/tokens')).body.tokens as [
    Tokens['tokens'][number],
  ]

  const foreign = await control.call('DELETE', `/v1/fleets/other/tokens/${id}`)
  await control.call('DELETE', `/v1/fleets/demo/tokens/${id}`)
  control.clock.nowMs += 1000
  const again = await control.call('DELETE', `/v1/fleets/demo/tokens/${id}`)

  expect([foreign.status, again.status]).toEqual([404, 204])
  const { body } = await control.call<Tokens>('GET', '/v1/fleets/demo/tokens')
  expect(body.tokens[0]!.revoked_at).toBe('2026-11-23T19:00:00.000Z')
})

test('making a fleet that is there changes nothing', async () => {
  const control = await inProcessControl()
  const first = await control.call('PUT', '/v1/fleets/demo')
  await control.apply(document())
  control.clock.nowMs += 1000

  const again = await control.call('PUT', '/v1/fleets/demo')

  expect([first.status, again.status]).toEqual([201, 200])
  expect(again.body).toMatchObject({ version: 1, created_at: '2026-11-23T19:00:00.000Z' })
})

test('the description names every key of a configuration with its bounds', async () => {
  const control = await inProcessControl()

  const { body } = await control.call<{ openapi: string; paths: Record<string, { put: object }> }>(
    'GET',
    '/openapi.json',
  )

  expect(body.openapi).toBe('3.1.0')
  const put = JSON.stringify(body.paths['/v1/fleets/{fleet}/config']!.put)
  expect(put).toContain('"tcp_user_timeout":{"type":"string","description":"maximum time that data sent to a server')
  expect(put).toContain('"application/toml"')
})

test('readiness tells of a store that cannot be read, liveness does not care', async () => {
  const control = await inProcessControl()
  const before = await control.call('GET', '/readyz', { token: null })

  await control.host.store.close()

  expect(before.status).toBe(200)
  expect(await control.call('GET', '/readyz', { token: null })).toMatchObject({
    status: 503,
    body: { detail: 'could not read the store' },
  })
  expect((await control.call('GET', '/livez', { token: null })).status).toBe(200)
})

test("control's own fault is told without its details, which go to the log", async () => {
  const control = await inProcessControl()
  await control.host.store.close()

  const answer = await control.call('GET', '/v1/fleets')

  expect(answer).toMatchObject({ status: 500, body: { type: 'urn:flotilla:problem:internal' } })
  expect(answer.text).not.toContain('database')
  expect(control.faults).toHaveLength(1)
})

test('no id of a token looks like an option on a command line', async () => {
  const control = await inProcessControl()
  await control.call('PUT', '/v1/fleets/demo')
  // In base64 for URLs these bytes begin with "-".
  vi.spyOn(control.host, 'random').mockImplementation((bytes) => new Uint8Array(bytes).fill(0xf8))

  const { body } = await control.call<{ id: string }>('POST', '/v1/fleets/demo/tokens', { body: { name: 'ci' } })

  expect(body.id).toMatch(/^tok_-/)
})
