import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { noSecrets, readDocument } from '../../shared/config/document.ts'
import { effectiveGeneral, effectivePools } from '../../shared/config/effective.ts'
import { poolKeys } from '../../shared/config/keys.ts'
import type { FleetDocument } from '../../shared/config/sections.ts'
import { hashOf, poolHashes } from '../../shared/hash.ts'

interface Tree {
  defaults?: Record<string, unknown>
  pools: Record<string, { users: Record<string, Record<string, unknown>>; [key: string]: unknown }>
}

function tree(): Tree {
  const servers = [{ host: 'db' }]
  return {
    defaults: { pool_size: 10 },
    pools: {
      a: { servers, users: { one: { password: 'x' }, two: { password: 'y' } } },
      b: { servers, users: { one: { password: 'x' } } },
    },
  }
}

/** "pool/user" → both hashes. */
function hashes(given: unknown): Record<string, { hash: string; connect_hash: string }> {
  const document = readDocument(given, noSecrets)
  return Object.fromEntries(effectivePools(document).map((pool) => [`${pool.pool}/${pool.user}`, poolHashes(pool)]))
}

function changed(before: unknown, after: unknown, which: 'hash' | 'connect_hash'): string[] {
  const [old, now] = [hashes(before), hashes(after)]
  return Object.keys(now).filter((name) => now[name]![which] !== old[name]?.[which])
}

test('a changed default changes the hash of every pool that inherits it, and no connect_hash', () => {
  const after = tree()
  after.defaults = { pool_size: 11 }
  after.pools['b']!['pool_size'] = 10

  expect(changed(tree(), after, 'hash')).toEqual(['a/one', 'a/two'])
  expect(changed(tree(), after, 'connect_hash')).toEqual([])
})

test('a default that is written out changes nothing', () => {
  const after = tree()
  after.defaults = { pool_size: 10, query_wait_timeout: '120s', pool_mode: 'transaction' }

  expect(changed(tree(), after, 'hash')).toEqual([])
})

test("one user's change changes that user's hash alone", () => {
  const after = tree()
  after.pools['a']!.users['one']!['idle_timeout'] = '1m'

  expect(changed(tree(), after, 'hash')).toEqual(['a/one'])
  expect(changed(tree(), after, 'connect_hash')).toEqual([])
})

test('another server, database, server user or server password changes connect_hash', () => {
  for (const [key, value] of Object.entries({
    servers: [{ host: 'db2' }],
    database: 'other',
    server_user: 'role',
    server_password: 'z',
  })) {
    const after = tree()
    after.pools['b']![key] = value

    expect([key, ...changed(tree(), after, 'hash')]).toEqual([key, 'b/one'])
    expect([key, ...changed(tree(), after, 'connect_hash')]).toEqual([key, 'b/one'])
  }
})

test("a client's new password leaves the servers alone where the server's is given apart", () => {
  const before = tree()
  before.pools['b']!['server_password'] = 's'
  const after = tree()
  after.pools['b']!['server_password'] = 's'
  after.pools['b']!.users['one']!['password'] = 'new'

  expect(changed(before, after, 'hash')).toEqual(['b/one'])
  expect(changed(before, after, 'connect_hash')).toEqual([])
})

test('a former password changes the hash and no connect_hash, by its digest, and its absence is nothing', () => {
  const after = tree()
  Object.assign(after.pools['b']!.users['one']!, {
    previous_password: 'old',
    previous_password_until: '2030-01-01T00:00:00Z',
  })
  const [, , pool] = effectivePools(readDocument(after, noSecrets))

  expect(changed(tree(), after, 'hash')).toEqual(['b/one'])
  expect(changed(tree(), after, 'connect_hash')).toEqual([])
  expect(pool).toMatchObject({ previous_password: { literal: 'old' } })
  expect(effectivePools(readDocument(tree(), noSecrets))[2]).not.toHaveProperty('previous_password')
})

test('a literal password is hashed by its digest', () => {
  const [pool] = effectivePools(readDocument(tree(), noSecrets))
  const digest = { literal_sha256: '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881' }

  expect(pool!.password).toEqual({ literal: 'x' })
  const { pool: name, user, database, servers, server_user } = pool!
  expect(poolHashes(pool!).hash).toBe(
    hashOf({
      pool: name,
      user,
      database,
      servers,
      server_user,
      pool_size: 10,
      password: digest,
      server_password: digest,
    }),
  )
})

test('the hash of a known value is the SHA-256 of its canonical JSON', () => {
  // printf '{"a":1,"b":[true,null]}' | sha256sum
  expect(hashOf({ b: [true, null], a: 1 })).toBe('1cc69c7fa23616ca2ec3ee70d24390a6225c8832db8a4c814c7e0e7f942f8668')
})

test('effective values have every key of the table, durations in their one spelling', () => {
  const document = readDocument(tree(), noSecrets)
  const [pool] = effectivePools(document)

  expect(Object.keys(poolKeys).filter((key) => !(key in pool!))).toEqual([])
  expect(pool!.query_wait_timeout).toBe('2m')
  expect(effectiveGeneral(document).settings.dns_max_ttl).toBe('15s')
})

test('with trust clients need no password, and the server is still shown the one that is written', () => {
  const given = tree()
  given.pools['b']!.users['one']!['auth_type'] = 'trust'

  const pool = effectivePools(readDocument(given, noSecrets)).find(({ pool }) => pool === 'b')!

  expect([pool.password, pool.server_password]).toEqual([null, { literal: 'x' }])
})

test("names default to the pool's and the user's, and a user's own keys stand before the pool's", () => {
  const given = tree()
  Object.assign(given.pools['a']!, { server_user: 'shared', server_password: '', pool_size: 5 })
  Object.assign(given.pools['a']!.users['two']!, { server_user: 'own', server_password: 'z', pool_size: 6 })

  const [one, two, plain] = effectivePools(readDocument(given, noSecrets))

  expect(one).toMatchObject({ server_user: 'shared', server_password: null, pool_size: 5, database: 'a' })
  expect(two).toMatchObject({ server_user: 'own', server_password: { literal: 'z' }, pool_size: 6 })
  expect(plain).toMatchObject({ server_user: 'one', database: 'b', pool_size: 10 })
})

test('the password of auth_user changes the hash of the pools that ask as it, and no connect_hash', () => {
  const given = tree()
  const hashesWith = (password: string): ReturnType<typeof hashes> => {
    Object.assign(given.pools['a']!, { auth_user: 'asker', auth_password: password })
    return hashes(given)
  }

  const [one, two] = [hashesWith('one'), hashesWith('two')]

  expect(two['a/one']!.hash).not.toBe(one['a/one']!.hash)
  expect(two['a/one']!.connect_hash).toBe(one['a/one']!.connect_hash)
  expect(two['b/one']).toEqual(one['b/one'])
})

test('the hash does not depend on the order of keys or the spelling of durations', () => {
  const seconds = fc.integer({ min: 1, max: 600 })
  const spelling = fc.constantFrom<(value: number) => string>(
    (value) => `${value}s`,
    (value) => `${value * 1000}ms`,
    (value) => (value % 60 === 0 ? `${value / 60}m` : `${value}s`),
  )
  fc.assert(
    fc.property(
      seconds,
      spelling,
      spelling,
      fc.boolean(),
      fc.integer({ min: 1, max: 9 }),
      (s, one, two, flip, size) => {
        const pool = (spell: (value: number) => string, reversed: boolean) => {
          const entries: [string, unknown][] = [
            ['query_wait_timeout', spell(s)],
            ['pool_size', size],
            ['servers', [{ host: 'db' }]],
            ['users', { u: { password: 'x', idle_timeout: spell(s) }, v: { auth_type: 'trust' } }],
          ]
          const sections: [string, unknown][] = [
            ['pools', { p: Object.fromEntries(reversed ? entries.toReversed() : entries) }],
            ['defaults', { server_lifetime: spell(s) }],
          ]
          return Object.fromEntries(reversed ? sections.toReversed() : sections)
        }
        const first = readDocument(pool(one, false), noSecrets)
        const second = readDocument(pool(two, flip), noSecrets)

        expect(hashOf(second)).toBe(hashOf(first))
        const hashesOf = (document: FleetDocument) => effectivePools(document).map((pool) => poolHashes(pool))
        expect(hashesOf(second)).toEqual(hashesOf(first))
      },
    ),
  )
})
