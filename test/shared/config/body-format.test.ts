import { expect, test } from 'vitest'
import { bodyIn, effectiveOf, generalIn, generalOf } from '../../../shared/config/body-format.ts'
import { noSecrets, readDocument } from '../../../shared/config/document.ts'
import { effectiveGeneral, effectivePools } from '../../../shared/config/effective.ts'
import { firstRelease } from '../../../shared/config/first-release.ts'
import { agreedFormat, formatUpTo } from '../../../shared/config/formats.ts'
import { generalKeys, poolKeys } from '../../../shared/config/keys.ts'
import type { KeySpec } from '../../../shared/config/keys.ts'
import { poolHashes } from '../../../shared/hash.ts'

function documentWith(user: object = {}, general: object = {}) {
  const web = { password: { env: 'A' }, idle_timeout: '90s', ...user }
  const shared = { password: { env: 'A' }, server_user: 'web', server_password: { env: 'B' }, pool_size: 3 }
  return readDocument(
    {
      general: { dns_max_ttl: '30s', ...general },
      defaults: { pool_size: 10 },
      pools: { app: { servers: [{ host: 'db' }], server_password: { env: 'B' }, users: { web, shared } } },
      admin_users: { root: { password: { env: 'ROOT' } } },
    },
    noSecrets,
  )
}

/** The pool of user web. */
function webOf(document: ReturnType<typeof documentWith>, format?: 1 | 2) {
  return effectivePools(document, format).find(({ user }) => user === 'web')!
}

test('format 1 has the hashes that release 0.1.0 computed', () => {
  // effectivePools(document).map(poolHashes) of commit 8b5609d
  expect(effectivePools(documentWith(), 1).map((pool) => poolHashes(pool, 1))).toEqual([
    {
      hash: 'c1a5d1fa23286d84882099fb956b60cedb7cc0b7f55699c9e3544b3bf9d1c470',
      connect_hash: 'd9401ddffa4df7fa8e9985adb968c90c6d08b5ab2f397a3f377a8e93836cc28c',
    },
    {
      hash: 'a8fc671d8df12b56e570317de4bd33f91bb2c1e29ad78bccbdf7bb4064be4f82',
      connect_hash: 'd9401ddffa4df7fa8e9985adb968c90c6d08b5ab2f397a3f377a8e93836cc28c',
    },
  ])
})

test('in format 1 users who share servers have the values that release 0.1.0 gave them', () => {
  const sizes = ([1, 2] as const).map((format) =>
    effectivePools(documentWith(), format).map((pool) => [pool.user, pool.pool_size]),
  )

  expect(sizes).toEqual([
    [
      ['shared', 3],
      ['web', 10],
    ],
    [
      ['shared', 10],
      ['web', 10],
    ],
  ])
})

test('a compact body has the keys that are not at their defaults, and what says which pool it is', () => {
  expect(bodyIn(2, webOf(documentWith()))).toEqual({
    pool: 'app',
    user: 'web',
    database: 'app',
    servers: [{ host: 'db', port: 5432, role: 'primary' }],
    server_user: 'web',
    server_password: { env: 'B' },
    password: { env: 'A' },
    pool_size: 10,
  })
  expect(generalIn(2, effectiveGeneral(documentWith())).settings).toEqual({ dns_max_ttl: '30s' })
})

test('a body of format 1 has the keys of release 0.1.0, and another one only where it is used', () => {
  const keysOf = (user: object) => Object.keys(bodyIn(1, webOf(documentWith(user), 1))).toSorted()
  const ofFirst = [...Object.keys(firstRelease.pool), 'pool', 'user', 'database', 'servers', 'server_user']
  const expected = [...ofFirst, 'password', 'server_password'].toSorted()

  expect(keysOf({})).toEqual(expected)
  expect(keysOf({ isolation: 'standard' })).toEqual(expected)
})

test('the general part of format 1 has the keys of release 0.1.0 in their order, then those that are used', () => {
  const general = effectiveGeneral(documentWith({}, { metrics_per_pool: 'none' }))

  expect(Object.keys(generalIn(1, general).settings)).toEqual([
    ...Object.keys(firstRelease.general),
    'metrics_per_pool',
  ])
})

test('a key of release 0.1.0 that is gone since keeps its value of that time in format 1', () => {
  const { connect_timeout: _, ...keys } = poolKeys as Record<string, KeySpec>
  const { connect_timeout: __, ...pool } = webOf(documentWith())

  const body = bodyIn(1, pool as Parameters<typeof bodyIn>[1], keys)

  expect(body['connect_timeout']).toBe(firstRelease.pool.connect_timeout)
})

test('where a default has changed, bodies name the value, and older releases read it', () => {
  const changed: Record<string, KeySpec> = {
    ...poolKeys,
    idle_timeout: { ...poolKeys.idle_timeout, default: '20m', firstDefault: '10m' },
  }
  const withDefault = effectiveOf({ ...webOf(documentWith()), idle_timeout: '20m' }, changed)
  const withFormer = effectiveOf({ ...webOf(documentWith()), idle_timeout: '10m' }, changed)

  expect(bodyIn(2, withDefault, changed)).toMatchObject({ idle_timeout: '20m' })
  expect(effectiveOf(bodyIn(2, withDefault, changed), poolKeys).idle_timeout).toBe('20m')
  expect(bodyIn(2, withFormer, changed)).not.toHaveProperty('idle_timeout')
  expect(effectiveOf(bodyIn(2, withFormer, changed), changed).idle_timeout).toBe('10m')
  expect(poolHashes(withDefault, 2, changed).hash).not.toBe(poolHashes(withFormer, 2, changed).hash)
})

test('each key that release 0.1.0 knew means the same today', () => {
  const defaults = (keys: Record<string, KeySpec>, first: object) =>
    Object.fromEntries(Object.entries(effectiveDefaults(keys)).filter(([key]) => key in first))

  expect(defaults(poolKeys, firstRelease.pool)).toEqual(firstRelease.pool)
  expect(defaults(generalKeys, firstRelease.general)).toEqual(firstRelease.general)
})

function effectiveDefaults(keys: Record<string, KeySpec>): object {
  return generalOf({}, keys)
}

test('the format is the newest that both sides know, and the first for a proxy that names none', () => {
  expect([[], [1], [1, 2], [1, 2, 3], [7]].map((known) => agreedFormat(known))).toEqual([1, 1, 2, 2, 1])
  expect([0, 1, 2, 3].map((asked) => formatUpTo(asked))).toEqual([1, 1, 2, 2])
})
