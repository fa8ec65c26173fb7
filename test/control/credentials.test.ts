import { expect, test } from 'vitest'
import { credentials } from '../../shared/config/credentials.ts'
import type { CredentialSpec } from '../../shared/config/credentials.ts'
import type { EffectivePool } from '../../shared/config/effective.ts'
import type { Manifest } from '../../shared/wire.ts'

// The table with one line more than in the product, before any module that is derived from it is loaded.
const added: CredentialSpec = {
  type: 'secret',
  class: 'connect',
  presence: 'optional',
  inDefaults: true,
  help: 'an added credential',
  effective: ({ sources }) => sources['added_password'],
}
Object.assign(credentials, { added_password: added })
const { ControlSource } = await import('../../proxy/agent/control-source.ts')
const { verifyBody } = await import('../../proxy/agent/offer.ts')
const { Passwords } = await import('../../proxy/agent/password.ts')
const { prepare } = await import('../../proxy/agent/prepare.ts')
const { noSecrets, readDocument } = await import('../../shared/config/document.ts')
const { bodyIn } = await import('../../shared/config/body-format.ts')
const { effectivePools } = await import('../../shared/config/effective.ts')
const { hashOf, poolHashes, sha256Hex } = await import('../../shared/hash.ts')
const { document, inProcessControl } = await import('./in-process.ts')

const literals = ['of defaults', 'of the pool', 'of the user']

/** A document with a literal in each place where the added credential can stand. */
function withLiterals() {
  const given = document({ added_password: 'of the user' }, { added_password: 'of defaults' }) as {
    pools: { app: Record<string, unknown> }
  }
  given.pools.app['added_password'] = 'of the pool'
  return given
}

test('a credential that is a line of the table is sealed wherever it stands', async () => {
  const control = await inProcessControl()
  await control.fleet()

  const { status } = await control.apply(withLiterals())
  const { text } = await control.call('GET', '/v1/fleets/demo/config')
  const { body } = await control.call<{ secrets: { name: string }[] }>('GET', '/v1/fleets/demo/secrets')

  expect(status).toBe(201)
  expect(literals.filter((literal) => text.includes(literal))).toEqual([])
  expect(body.secrets.map(({ name }) => name)).toEqual([
    'defaults.added_password',
    'pools.app.added_password',
    'pools.app.users.web.added_password',
    'pools.app.users.web.password',
  ])
})

test('a credential that is a line of the table is in the schema of documents', async () => {
  const control = await inProcessControl()

  const { text } = await control.call('GET', '/openapi.json', { token: null })

  expect(text.match(/"added_password"/g)?.length).toBe(3)
})

test('a credential that is a line of the table takes part in the hashes, by its digest', () => {
  const [pool] = effectivePools(readDocument(withLiterals(), noSecrets)) as [EffectivePool]
  const [other] = effectivePools(readDocument(document({ added_password: 'another' }), noSecrets)) as [EffectivePool]

  expect(pool).toMatchObject({ added_password: { literal: 'of the user' } })
  expect(poolHashes(pool).connect_hash).not.toBe(poolHashes(other).connect_hash)
  const digests = {
    added_password: { literal_sha256: sha256Hex('of the user') },
    password: { literal_sha256: sha256Hex('geheim') },
    server_password: { literal_sha256: sha256Hex('geheim') },
  }
  expect(poolHashes(pool).hash).toBe(hashOf({ ...bodyIn(2, pool), ...digests }))
})

test('a credential that is a line of the table is fetched and kept by proxies', async () => {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(withLiterals())
  const get = async <Body>(path: string): Promise<Body> =>
    (await control.call<Body>('GET', `/v1/fleets/demo/${path}`, { token })).body
  const manifest = await get<Manifest>('manifest')
  const source = new ControlSource({ poolBody: async (hash) => await get(`pools/${hash}`) }, () => undefined)
  const fetched: string[] = []

  const offer = await source.candidate(manifest, null).load()
  await prepare(offer, {
    resolver: { resolveAll: async () => await Promise.resolve(new Map()) },
    secrets: {
      value: async (ref) => {
        if ('secret' in ref) fetched.push(ref.secret)
        return await Promise.resolve('fetched')
      },
    },
    passwords: new Passwords(() => new Uint8Array(32)),
  })

  expect(fetched).toContain('pools.app.users.web.added_password')
  expect([...(source.applied(offer)?.secretKeys ?? [])]).toContain('pools.app.users.web.added_password@1')
})

test('a body whose added credential is no reference is refused', () => {
  const [pool] = effectivePools(readDocument(withLiterals(), noSecrets)) as [EffectivePool]
  const promised = { pool: 'app', user: 'web', ...poolHashes(pool) }

  expect(() => verifyBody(promised, { ...pool, added_password: 'in clear' })).toThrow(/added_password/)
})
