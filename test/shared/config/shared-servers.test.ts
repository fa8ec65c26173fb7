import { describe, expect, test } from 'vitest'
import { noSecrets, readDocument } from '../../../shared/config/document.ts'
import { effectivePools } from '../../../shared/config/effective.ts'
import { ConfigError } from '../../../shared/config/problems.ts'
import { unusedValues } from '../../../shared/config/shared-servers.ts'
import { poolHashes } from '../../../shared/hash.ts'

const servers = [{ host: 'db' }]
const app = { server_user: 'app', server_password: 'secret' }

/** A document with one database, whose clients are trusted. */
function documentOf(section: object) {
  const tree = { defaults: { auth_type: 'trust' }, pools: { db: { servers, ...section } } }
  return readDocument(tree, noSecrets)
}

function problemsOf(section: object): string[] {
  try {
    documentOf(section)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.map(({ path, message }) => `${path}: ${message}`)
    throw error
  }
  return []
}

function bodiesOf(section: object) {
  return new Map(effectivePools(documentOf(section)).map((body) => [body.user, { body, ...poolHashes(body) }]))
}

describe('users of a database with one server_user', () => {
  test('have the values of the database where these are about servers, and their own about clients', () => {
    const users = { web: { pool_size: 1, query_timeout: '1s' }, jobs: { query_timeout: '2s' } }

    const bodies = bodiesOf({ ...app, pool_size: 5, users })

    expect(bodies.get('web')?.body).toMatchObject({ pool_size: 5, query_timeout: '1s' })
    expect(bodies.get('jobs')?.body).toMatchObject({ pool_size: 5, query_timeout: '2s' })
    expect(bodies.get('web')?.connect_hash).toBe(bodies.get('jobs')?.connect_hash)
    expect(bodies.get('web')?.hash).not.toBe(bodies.get('jobs')?.hash)
  })

  test('get another hash when the pool_size of the database changes', () => {
    const [before, after] = [5, 6].map((size) => bodiesOf({ ...app, pool_size: size, users: { web: {}, jobs: {} } }))

    for (const user of ['web', 'jobs']) {
      expect(after?.get(user)?.hash).not.toBe(before?.get(user)?.hash)
      expect(after?.get(user)?.connect_hash).toBe(before?.get(user)?.connect_hash)
    }
  })

  test('are those whose role has the name of a user, too', () => {
    const users = { web: { server_user: 'app', pool_size: 1 }, app: { pool_size: 2 }, jobs: { pool_size: 3 } }

    const sizes = [...bodiesOf({ pool_size: 5, server_password: '', users }).values()].map(({ body }) => body.pool_size)

    expect(sizes).toEqual([5, 3, 5])
  })

  test('are not those with passthrough, nor one alone: their own values apply', () => {
    const alone = bodiesOf({ ...app, pool_size: 5, users: { web: { pool_size: 1 } } })
    const passed = {
      auth_type: 'scram-sha-256',
      server_auth: 'passthrough',
      users: { web: { password: 'x', pool_size: 1 } },
    }

    expect(alone.get('web')?.body.pool_size).toBe(1)
    expect(bodiesOf({ ...passed, pool_size: 5 }).get('web')?.body.pool_size).toBe(1)
  })

  test('are warned of values without effect, with the paths of both', () => {
    const document = documentOf({
      ...app,
      pool_size: 5,
      users: { web: { pool_size: 9, idle_timeout: '10m' }, jobs: {} },
    })

    expect(unusedValues(document)).toEqual([
      {
        path: 'pools.db.users.web.pool_size',
        message:
          'has no effect: servers of role "app" are shared with pools.db.users.jobs, and take pool_size = 5 from [pools.db]',
      },
    ])
  })

  const both = (web: object, jobs: object) => ({ server_user: 'app', users: { web, jobs } })

  test.for<readonly [string, object, readonly RegExp[]]>([
    ['one password for all', { ...app, users: { web: {}, jobs: {} } }, []],
    ['no password', both({}, { server_password: '' }), []],
    ['one secret', both({ server_password: { env: 'P' } }, { server_password: { env: 'P' } }), []],
    [
      'two secrets',
      both({ server_password: { env: 'P' } }, { server_password: { env: 'Q' } }),
      [
        /^pools\.db\.users\.web\.server_password: must be that of pools\.db\.users\.jobs: both log in to servers as "app"/,
      ],
    ],
    [
      'a literal in two places, which becomes two secrets',
      both({ server_password: 'x' }, { server_password: 'x' }),
      [/^pools\.db\.users\.web\.server_password: must be that of pools\.db\.users\.jobs/],
    ],
    [
      'passwords of two clients',
      both({ password: 'x' }, { password: 'y' }),
      [/^pools\.db\.users\.web\.server_password: /],
    ],
    [
      'a key of connections at one user',
      { ...app, users: { web: { server_tls_sslmode: 'require' }, jobs: {} } },
      [
        /^pools\.db\.users\.web\.server_tls_sslmode: must not differ: it and pools\.db\.users\.jobs log in to servers as "app"/,
      ],
    ],
  ])('must open servers in the same way: %s', ([, section, expected]) => {
    const problems = problemsOf(section)

    expect(problems).toHaveLength(expected.length)
    for (const [at, pattern] of expected.entries()) expect(problems[at]).toMatch(pattern)
  })
})
