import { describe, expect, test } from 'vitest'
import type { Plan, Written } from '../../shared/api.ts'
import type { ProblemDocument } from '../../shared/problem.ts'
import { document, inProcessControl, operatorToken } from './in-process.ts'

const app = { pool: 'app', user: 'web' }
const noChange: Plan = { added: [], rebuilt: [], retuned: [], removed: [], kept: [], general: [], secrets: [] }

test('the first configuration is version 1 and adds its pools', async () => {
  const control = await inProcessControl()
  await control.fleet()

  const answer = await control.apply<Written>(document())

  expect(answer.status).toBe(201)
  expect(answer.headers.get('etag')).toBe('"v1"')
  expect(answer.body).toMatchObject({
    version: 1,
    created: true,
    rollback_of: null,
    plan: { ...noChange, added: [app] },
  })
})

test('113: a document that was read can be written back: nothing differs and no version is made', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await control.apply({
    general: { poll_interval: '3s' },
    ...document({ idle_timeout: '60s' }, { pool_size: 7 }),
    admin_users: { ops: { password: 'admin-geheim' } },
  })
  const { body, headers } = await control.call('GET', '/v1/fleets/demo/config')

  const again = await control.call<Written>('PUT', '/v1/fleets/demo/config', {
    body,
    headers: { 'if-match': headers.get('etag')! },
  })

  expect(again.status).toBe(200)
  expect(again.body).toMatchObject({ version: 1, created: false, plan: { ...noChange, kept: [app] } })
})

test('what proxies keep, retune, rebuild, add and remove is told in the plan', async () => {
  const control = await inProcessControl()
  await control.fleet()
  const servers = [{ host: 'db' }]
  const user = (over: object = {}) => ({ password: 'x', ...over })
  await control.apply({
    pools: { a: { servers, users: { keep: user(), tune: user(), gone: user(), move: user() } } },
    stats_users: { monitor: { auth_type: 'trust' } },
  })

  const { body } = await control.apply<Written>({
    general: { dns_max_ttl: '1m' },
    pools: {
      a: {
        servers,
        users: { keep: user(), tune: user({ pool_size: 3 }), move: user({ server_user: 'r' }), fresh: user() },
      },
    },
  })

  expect(body.plan).toEqual({
    added: [{ pool: 'a', user: 'fresh' }],
    rebuilt: [{ pool: 'a', user: 'move' }],
    retuned: [{ pool: 'a', user: 'tune' }],
    removed: [{ pool: 'a', user: 'gone' }],
    kept: [{ pool: 'a', user: 'keep' }],
    general: ['dns_max_ttl', 'stats_users.monitor'],
    secrets: [],
  })
})

test('A, B, A: each is a version, and the last has the content of the first', async () => {
  const control = await inProcessControl()
  await control.fleet()

  const first = await control.apply<Written>(document({ password: 'A' }))
  const second = await control.apply<Written>(document({ password: 'B' }))
  const third = await control.apply<Written>(document({ password: 'A' }))

  expect([first, second, third].map(({ body }) => body.version)).toEqual([1, 2, 3])
  expect(second.body.content_hash).not.toBe(first.body.content_hash)
  expect(third.body.content_hash).toBe(first.body.content_hash)
  expect(third.body.plan.rebuilt).toEqual([app])
})

test('TOML and JSON of the same tree are the same configuration', async () => {
  const control = await inProcessControl()
  await control.fleet()
  await control.apply(document({ pool_size: 4 }))

  const answer = await control.call<Written>('PUT', '/v1/fleets/demo/config', {
    toml: `
      [pools.app]
      servers = [{ host = "10.0.0.1", port = 5432 }]
      [pools.app.users.web]
      pool_size = 4
      password = "geheim"
    `,
    headers: { 'if-match': '"v1"' },
  })

  expect(answer).toMatchObject({ status: 200, body: { version: 1, created: false } })
})

test('a dry run plans and stores nothing, neither version nor secret', async () => {
  const control = await inProcessControl()
  await control.fleet()

  const answer = await control.call<Written>('PUT', '/v1/fleets/demo/config?dry_run=true', { body: document() })

  expect(answer.status).toBe(200)
  expect(answer.body).toMatchObject({ version: 1, created: false, dry_run: true, plan: { added: [app] } })
  expect((await control.call('GET', '/v1/fleets/demo')).body).toMatchObject({ version: 0 })
  expect((await control.call('GET', '/v1/fleets/demo/secrets')).body).toEqual({ secrets: [] })
})

test('what was planned in a dry run is what is then made', async () => {
  const control = await inProcessControl()
  await control.fleet()
  const planned = await control.call<Written>('PUT', '/v1/fleets/demo/config?dry_run=true', { body: document() })

  const { body } = await control.apply<Written>(document())

  expect(body).toEqual({ ...planned.body, created: true, dry_run: false })
})

test('the message of a change is kept, whatever its letters', async () => {
  const control = await inProcessControl()
  await control.fleet()

  await control.apply(document(), { 'flotilla-message': encodeURIComponent('größer: 100 % mehr') })
  await control.apply(document({ pool_size: 1 }), { 'flotilla-message': '100 % plain' })

  const { body } = await control.call<{ versions: { message: string }[] }>('GET', '/v1/fleets/demo/versions')
  expect(body.versions.map(({ message }) => message)).toEqual(['100 % plain', 'größer: 100 % mehr'])
})

test('every hint target is told of a new version, and of nothing else', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.call('POST', '/v1/fleets/demo/proxies/p1/hello', {
    token,
    body: { boot: 'b', agent_version: '1', listen: 'x', hint_url: 'http://10.0.0.9:9930' },
  })

  await control.apply(document())
  await control.apply(document())
  await control.call('PUT', '/v1/fleets/demo/config?dry_run=true', { body: document({ pool_size: 2 }) })

  expect(control.hints).toEqual([
    {
      targets: [{ fleet: 'demo', proxy: 'p1', boot: 'b', hint_url: 'http://10.0.0.9:9930' }],
      hint: { fleet: 'demo', epoch: 1, version: 1, reason: 'version' },
    },
  ])
})

describe('a write that cannot be done says why and stores nothing:', () => {
  const valid = JSON.stringify(document())
  const json = { 'content-type': 'application/json', 'if-match': '"v1"' }
  const toml = { 'content-type': 'application/toml', 'if-match': '"v1"' }
  const cases: [string, Record<string, string>, string | Uint8Array<ArrayBuffer>, number, Partial<ProblemDocument>][] =
    [
      [
        'without If-Match',
        { 'content-type': 'application/json' },
        valid,
        428,
        { type: 'urn:flotilla:problem:if-match-required' },
      ],
      ['a stale If-Match', { ...json, 'if-match': '"v0"' }, valid, 412, { current: 'v1' }],
      ['an If-Match from the future', { ...json, 'if-match': '"v2"' }, valid, 412, { current: 'v1' }],
      ['an If-Match without quotes', { ...json, 'if-match': 'v1' }, valid, 400, {}],
      ['If-Match: *', { ...json, 'if-match': '*' }, valid, 400, {}],
      ['another content type', { ...json, 'content-type': 'text/yaml' }, valid, 415, {}],
      [
        'broken JSON',
        json,
        '{"pools":\n  {"a": ]}',
        400,
        { errors: [{ path: 'line 2, column 9', message: 'expected a value' }] },
      ],
      [
        'a user twice in JSON',
        json,
        '{"pools":{"a":{"users":{"u":{},"u":{}}}}}',
        400,
        { errors: [{ path: 'line 1, column 32', message: 'duplicate key' }] },
      ],
      [
        'broken TOML',
        toml,
        '[pools.app\n',
        400,
        {
          errors: [
            { path: expect.stringMatching(/^line 1, column \d+$/) as string, message: expect.any(String) as string },
          ],
        },
      ],
      [
        'a user twice in TOML',
        toml,
        '[pools.app.users.web]\n[pools.app.users.web]\n',
        400,
        { errors: [{ path: 'line 2, column 2', message: expect.stringContaining('redefine') as string }] },
      ],
      ['no UTF-8', json, Uint8Array.of(0x22, 0xff, 0x22), 400, { detail: 'the document is not UTF-8' }],
      [
        'an unknown key',
        json,
        JSON.stringify(document({ pool_siz: 3 })),
        422,
        { errors: [{ path: 'pools.app.users.web.pool_siz', message: 'is not a known key; did you mean pool_size?' }] },
      ],
      [
        'an unknown secret',
        json,
        JSON.stringify(document({ password: { secret: 'x' } })),
        422,
        {
          errors: [
            {
              path: 'pools.app.users.web.password',
              message: expect.stringContaining('there is no secret "x"') as string,
            },
          ],
        },
      ],
      [
        'nothing',
        json,
        '{}',
        422,
        { errors: [{ path: 'pools', message: expect.stringContaining('at least one pool') as string }] },
      ],
      ['a list', json, '[]', 422, { errors: [expect.objectContaining({ path: '' }), expect.anything()] }],
      ['a long message', { ...json, 'flotilla-message': 'x'.repeat(501) }, valid, 422, {}],
      ['4 MiB and a byte', json, `"${'x'.repeat(4 * 1024 * 1024 - 1)}"`, 413, {}],
    ]
  test.each(cases)('%s', async (_, headers, body, status, problem) => {
    const control = await inProcessControl()
    await control.fleet()
    await control.apply(document())
    const before = await everything(control)

    const answer = await control.app.request('/v1/fleets/demo/config', {
      method: 'PUT',
      headers: { authorization: `Bearer ${operatorToken}`, ...headers },
      body,
    })

    expect(answer.headers.get('content-type')).toBe('application/problem+json')
    const found = (await answer.json()) as ProblemDocument
    expect(found).toMatchObject({ status, ...problem })
    expect(answer.status).toBe(status)
    expect(answer.headers.get('etag')).toBe(status === 412 ? '"v1"' : null)
    expect(await everything(control)).toEqual(before)
    expect(control.faults).toEqual([])
  })
})

test('a body without a length is cut off at 4 MiB', async () => {
  const control = await inProcessControl()
  await control.fleet()
  let sentBytes = 0
  const endless = new ReadableStream<Uint8Array>({
    pull(stream) {
      sentBytes += 65536
      stream.enqueue(new Uint8Array(65536).fill(0x20))
    },
  })

  const answer = await control.app.request('/v1/fleets/demo/config', {
    method: 'PUT',
    headers: { authorization: `Bearer ${operatorToken}`, 'content-type': 'application/json', 'if-match': '"v0"' },
    body: endless,
    duplex: 'half',
  })

  expect(answer.status).toBe(413)
  expect(sentBytes).toBeLessThan(8 * 1024 * 1024)
})

test('a fleet that does not exist is not found, whatever is sent', async () => {
  const control = await inProcessControl()

  const answers = await Promise.all([
    control.call('PUT', '/v1/fleets/none/config', { body: document(), headers: { 'if-match': '"v0"' } }),
    control.call('GET', '/v1/fleets/none/config'),
    control.call('GET', '/v1/fleets/none/versions'),
    control.call('GET', '/v1/fleets/none/versions/1'),
    control.call('POST', '/v1/fleets/none/rollback', { body: { to: 1 } }),
    control.call('POST', '/v1/fleets/none/reload', { body: {} }),
    control.call('GET', '/v1/fleets/none/proxies'),
    control.call('GET', '/v1/fleets/none/disconnects'),
    control.call('GET', '/v1/fleets/none/secrets'),
    control.call('PUT', '/v1/fleets/none/secrets/x', { body: { value: 'x' } }),
    control.call('POST', '/v1/fleets/none/tokens', { body: { name: 'x' } }),
    control.call('GET', '/v1/fleets/none'),
    control.call('GET', '/v1/fleets/not%20a%20name'),
  ])

  expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 404))
  expect(control.faults).toEqual([])
})

test('of many writers at once exactly one wins, the others are told the current version', async () => {
  const control = await inProcessControl()
  await control.fleet()

  const answers = await Promise.all(
    Array.from({ length: 8 }, (_, index) =>
      control.call<ProblemDocument>('PUT', '/v1/fleets/demo/config', {
        body: document({ pool_size: index + 1 }),
        headers: { 'if-match': '"v0"' },
      }),
    ),
  )

  expect(answers.filter(({ status }) => status === 201)).toHaveLength(1)
  expect(answers.filter(({ status, body }) => status === 412 && body.current === 'v1')).toHaveLength(7)
  expect((await control.call('GET', '/v1/fleets/demo/versions')).body).toMatchObject({ versions: [{ version: 1 }] })
})

/** What the operator can read of fleet `demo`. */
async function everything(control: Awaited<ReturnType<typeof inProcessControl>>): Promise<unknown[]> {
  const paths = ['', '/config', '/versions', '/secrets']
  return await Promise.all(paths.map(async (path) => (await control.call('GET', `/v1/fleets/demo${path}`)).body))
}

test('a value of a user without effect, because the servers are shared, is told in the answer and in the plan', async () => {
  const control = await inProcessControl()
  await control.fleet()
  const shared = (size: number) => ({
    pools: {
      db: {
        servers: [{ host: 'db' }],
        server_user: 'app',
        server_password: 'x',
        pool_size: size,
        users: { web: { password: 'w', pool_size: 9 }, jobs: { password: 'j' } },
      },
    },
  })

  const first = await control.apply<Written>(shared(5))
  const second = await control.apply<Written>(shared(6))

  expect(first.body.warnings).toMatchObject([{ path: 'pools.db.users.web.pool_size' }])
  expect(second.body.plan.retuned).toEqual([
    { pool: 'db', user: 'jobs' },
    { pool: 'db', user: 'web' },
  ])
})

test('a forced write makes a version of equal content too, and is told in versions and in the manifest', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  const body = document()
  await control.apply(body)
  const force = async (match: string) =>
    await control.call<Written>('PUT', '/v1/fleets/demo/config?force=true', { body, headers: { 'if-match': match } })

  const forced = await force('"v1"')
  const again = await force('"v2"')
  const unforced = await control.apply<Written>(body)

  expect(forced).toMatchObject({ status: 201, body: { version: 2, forced: true, plan: { ...noChange, kept: [app] } } })
  expect(again).toMatchObject({ status: 200, body: { version: 2, forced: true } })
  expect(unforced).toMatchObject({ status: 200, body: { version: 2, forced: true } })
  const versions = await control.call<{ versions: object[] }>('GET', '/v1/fleets/demo/versions')
  expect(versions.body.versions).toMatchObject([
    { version: 2, forced: true },
    { version: 1, forced: false },
  ])
  const manifest = await control.call<object>('GET', '/v1/fleets/demo/manifest', { token })
  expect(manifest.body).toMatchObject({ version: 2, forced: true })
})

test('the version after a forced one is not forced, and its manifest has no such field', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.call('PUT', '/v1/fleets/demo/config?force=true', { body: document(), headers: { 'if-match': '"v0"' } })

  const next = await control.apply<Written>(document({ pool_size: 3 }))
  const rollback = await control.call<Written>('POST', '/v1/fleets/demo/rollback', { body: { to: 1 } })

  expect([next.body.forced, rollback.body.forced]).toEqual([false, false])
  const { body } = await control.call<object>('GET', '/v1/fleets/demo/manifest', { token })
  expect(Object.keys(body)).not.toContain('forced')
})
