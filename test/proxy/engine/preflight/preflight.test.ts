import { describe, expect, test } from 'vitest'
import { query } from '../../../support/frontend-messages.ts'
import { commandComplete, ready } from '../../../support/scripted-server.ts'
import { ScriptedVersions } from './scripted-version.ts'
import type { Wanted } from './scripted-version.ts'

const done = Buffer.concat([commandComplete('SELECT 1'), ready()])

/** An engine that serves one pool with the settings "a", and has an idle server. */
function serving(): ScriptedVersions {
  const versions = new ScriptedVersions()
  versions.apply({})
  versions.client()
  return versions
}

const rebuilt = [{ connect: 'b', server: { serverPassword: 'other' } }] as const

describe('a version that is tried', () => {
  test('has a first server when it is applied, and its login is not repeated', () => {
    const versions = serving()
    const old = versions.dialed

    versions.preflight(rebuilt)
    versions.logsIn()
    const tried = versions.dialed
    const before = versions.outcome
    versions.apply(...rebuilt)

    expect(before).toMatchObject({ refused: [], failing: [], unknown: [], attempts: 1 })
    expect([old.ended, tried.ended]).toEqual(['end', null])
    expect(versions.pool()).toMatchObject({ serversIdle: 1 })
    expect(versions.io.dialed).toHaveLength(2)
  })

  test('serves clients that wait at the swap with that server', () => {
    const versions = new ScriptedVersions()
    versions.apply({ values: { pool_size: 1 } })
    versions.busy()
    const waiting = versions.io.accept(versions.engine.port)
    versions.preflight([{ connect: 'b', values: { pool_size: 1 } }])
    versions.logsIn()
    const tried = versions.dialed
    tried.taken()

    versions.apply({ connect: 'b', values: { pool_size: 1 } })

    expect(waiting.ended).toBeNull()
    expect(versions.io.dialed).toHaveLength(2)
    expect(tried.ended).toBeNull()
  })

  test('opens nothing for pools that stay as they are, or take other values for the same servers', () => {
    const versions = serving()

    versions.preflight([{ values: { pool_size: 7 } }])

    expect(versions.outcome).toMatchObject({ refused: [], attempts: 0 })
    expect(versions.io.dialed).toHaveLength(1)
  })

  test('is refused if a pool that serves would stop, and nothing that runs has changed', () => {
    const versions = serving()
    const old = versions.dialed

    versions.preflight(rebuilt)
    versions.refuses('28P01')
    const asked = versions.outcome
    versions.logsIn()
    versions.refuse()

    expect(asked).toBeUndefined()
    expect(versions.outcome?.refused).toEqual([
      {
        database: 'app',
        user: 'app',
        message: expect.stringMatching(
          /login as app to database app at db \(10\.0\.0\.1\) port 5432 failed: auth_failed, SQLSTATE 28P01, error 28P01/,
        ) as string,
      },
    ])
    expect(versions.open).toEqual([old])
    expect(versions.posted.filter(({ type }) => type === 'disconnect')).toEqual([])
    expect(versions.pool()).toMatchObject({ serversIdle: 1, closed: {} })
  })

  test('passes if its pools do not serve now either, for it may be the repair', () => {
    const versions = serving()
    versions.dialed.lose({ kind: 'reset', errno: 'ECONNRESET' })

    versions.preflight([{ connect: 'b', addresses: ['10.0.0.2'] }])
    versions.refusesConnection()
    versions.refusesConnection()

    expect(versions.outcome).toMatchObject({ refused: [], failing: [{ database: 'app', user: 'app' }] })
  })

  test('passes if a pool that it adds does not serve', () => {
    const versions = serving()

    versions.preflight([{}, { database: 'new' }])
    versions.refusesConnection()

    expect(versions.outcome).toMatchObject({ refused: [], failing: [{ database: 'new' }] })
  })

  test('is refused by "require" if any pool does not serve', () => {
    const versions = serving()

    versions.preflight([{}, { database: 'new' }], { rule: 'require' })
    versions.refusesConnection()

    expect(versions.outcome).toMatchObject({ refused: [{ database: 'new' }], failing: [] })
  })

  test.each(['53300', '57P03'])('passes if the server answers %s, which proves nothing', (sqlstate) => {
    const versions = serving()

    versions.preflight(rebuilt, { rule: 'require' })
    versions.refuses(sqlstate)

    expect(versions.outcome).toMatchObject({ refused: [], failing: [], unknown: [{ database: 'app' }] })
  })

  test.each([
    ['full', '53300', 'refused'],
    ['starting', '57P03', 'failing'],
  ] as const)('fails while the server that runs is %s: the pools are %s', (_, sqlstate, found) => {
    const versions = serving()

    versions.preflight([{ connect: 'b', addresses: ['10.0.0.2'] }])
    versions.refusesConnection()
    versions.refuses(sqlstate)

    expect(versions.outcome?.[found]).toHaveLength(1)
  })

  test('serves if any of its addresses does', () => {
    const versions = serving()

    versions.preflight([{ connect: 'b', addresses: ['10.0.0.2', '10.0.0.3'] }])
    versions.refusesConnection()
    versions.logsIn()

    expect(versions.dialed.remote.host).toBe('10.0.0.3')
    expect(versions.outcome).toMatchObject({ refused: [], failing: [], attempts: 1 })
  })

  test('is given up with what it has opened when another one is tried', () => {
    const versions = serving()
    versions.preflight(rebuilt)
    const first = versions.dialed

    versions.preflight([{ connect: 'c' }])

    expect(first.ended).toBe('close')
    expect(versions.posted.filter(({ type }) => type === 'preflighted')).toHaveLength(1)
  })

  test('opens nothing for a paused database', () => {
    const versions = serving()
    versions.engine.pools.setPaused('app', true)
    const before = versions.io.dialed.length

    versions.preflight(rebuilt)

    expect(versions.io.dialed).toHaveLength(before)
    expect(versions.outcome).toMatchObject({ refused: [], unknown: [{ database: 'app' }] })
  })

  test('is not tried further when its database is paused meanwhile', () => {
    const versions = serving()
    versions.preflight(rebuilt)

    versions.engine.pools.setPaused('app', true)

    expect(versions.open).toEqual([])
    expect(versions.outcome).toMatchObject({ refused: [], unknown: [{ database: 'app' }] })
  })
})

describe('logins', () => {
  const many = (connect: string, addresses = ['10.0.0.1']): Wanted[] =>
    Array.from({ length: 200 }, (_, at) => ({ database: `app${at}`, user: 'app', connect, addresses }))

  test('to one host are as many at a time as allowed, and none is left after a refusal', () => {
    const versions = new ScriptedVersions()
    versions.apply(...many('a'))

    versions.preflight(many('b', ['10.0.0.2']))
    const atOnce = versions.open.length
    versions.io.pass(5000)
    const running = versions.open.length
    for (const socket of versions.open) versions.logsIn(socket)

    expect([atOnce, running]).toEqual([16, 16])
    expect(versions.outcome?.attempts).toBe(32)
    expect(versions.outcome?.refused.length).toBeGreaterThan(0)
  })

  test('to a host that does not answer are waited for once', () => {
    const versions = new ScriptedVersions()
    versions.apply({ database: 'other', addresses: ['10.0.0.9'] })

    versions.preflight(many('b'))
    versions.io.pass(5000)

    expect(versions.outcome).toMatchObject({ refused: [] })
    expect(versions.outcome?.failing).toHaveLength(200)
    expect(versions.io.dialed).toHaveLength(16)
  })

  test('of pools with clients come first', () => {
    const versions = new ScriptedVersions()
    versions.apply(...many('a'))
    versions.client('app150')

    versions.preflight(many('b'), { atOnce: 1 })
    versions.dialed.open()

    expect(versions.dialed.taken().toString('latin1')).toContain('app150')
  })

  test('with the same address, database, user and password are made once', () => {
    const versions = serving()
    const server = { serverDatabase: 'data', serverUser: 'role' }

    versions.preflight([{}, { database: 'one', server }, { database: 'two', server }])
    versions.logsIn()

    expect(versions.outcome).toMatchObject({ attempts: 1, failing: [] })
    expect(versions.io.dialed).toHaveLength(2)
  })

  test('take the place of an idle server where pool_size servers are there', () => {
    const versions = new ScriptedVersions()
    versions.apply({ values: { pool_size: 1 } })
    versions.client()
    const [idle] = versions.open

    versions.preflight([{ connect: 'b', values: { pool_size: 1 } }])

    expect(idle?.ended).toBe('end')
    expect(versions.open).toHaveLength(1)
  })

  test('wait for room under max_db_connections, and take the place of a server that becomes free', () => {
    const versions = new ScriptedVersions()
    const values = { max_db_connections: 1 } as const
    versions.apply({ values })
    const client = versions.busy()
    const server = versions.dialed

    versions.preflight([{ connect: 'b', values }])
    const before = versions.open.length
    client.receive(query('COMMIT'))
    server.receive(Buffer.concat([done, done]))
    versions.io.pass(0)

    expect(before).toBe(1)
    expect(server.ended).toBe('end')
    expect(versions.open).toHaveLength(1)
    versions.logsIn()
    expect(versions.outcome).toMatchObject({ attempts: 1, unknown: [] })
  })

  test('for which there is no room within connect_timeout prove nothing', () => {
    const versions = new ScriptedVersions()
    const values = { max_db_connections: 1 } as const
    versions.apply({ values })
    versions.busy()

    versions.preflight([{ connect: 'b', values }])
    versions.io.pass(5000)

    expect(versions.open).toHaveLength(1)
    expect(versions.outcome).toMatchObject({
      refused: [],
      unknown: [{ message: expect.stringMatching(/no room/) as string }],
    })
  })
})

test('a pool without clients and without a minimum keeps no server of its trial', () => {
  const versions = new ScriptedVersions()
  versions.apply({})

  versions.preflight(rebuilt)
  versions.logsIn()

  expect(versions.outcome).toMatchObject({ attempts: 1, failing: [] })
  expect(versions.open).toEqual([])
})

describe('"*"', () => {
  const forAll = { database: '*', user: '*', server: { serverDatabase: '*', serverUser: '*' } } as const

  test('is tried by a connection without a login', () => {
    const versions = new ScriptedVersions()
    versions.apply(forAll)

    versions.preflight([{ ...forAll, connect: 'b' }])
    versions.dialed.open()

    expect(versions.dialed.taken()).toHaveLength(0)
    expect(versions.dialed.ended).toBe('close')
    expect(versions.outcome).toMatchObject({ refused: [], failing: [], attempts: 1 })
  })

  test('keeps a version away with which its servers could not be reached', () => {
    const versions = new ScriptedVersions()
    versions.apply(forAll)

    versions.preflight([{ ...forAll, connect: 'b', addresses: ['10.0.0.2'] }])
    versions.refusesConnection()
    versions.dialed.open()

    expect(versions.outcome).toMatchObject({ refused: [{ database: '*', user: '*' }] })
  })

  test('is tried with a login for each pool that clients have made', () => {
    const versions = new ScriptedVersions()
    versions.apply(forAll)
    versions.client('shop', 'app')
    const before = versions.io.dialed.length

    versions.preflight([{ ...forAll, connect: 'b', addresses: ['10.0.0.1', '10.0.0.2'] }])
    const dialed = versions.io.dialed.slice(before)
    for (const socket of dialed) socket.open()

    const sent = dialed.map((socket) => socket.taken().toString('latin1'))
    expect(sent.filter((text) => text.includes('shop'))).toHaveLength(1)
    expect(dialed).toHaveLength(2)
  })
})

describe('auth_query', () => {
  const asking = (addresses: readonly string[], authUser = 'asker'): Wanted => ({
    addresses,
    values: { auth_type: 'scram-sha-256', auth_user: authUser, auth_database: 'users' },
    server: { authPassword: 'secret' },
  })

  test('runs before a version that asks in another way, although the servers stay', () => {
    const versions = new ScriptedVersions()
    versions.apply(asking(['10.0.0.1']))

    versions.preflight([asking(['10.0.0.1'], 'other')])
    const { dialed } = versions
    versions.logsIn(dialed)
    const sent = dialed.taken().toString('latin1')
    dialed.receive(ready())

    expect(sent).toContain('pg_')
    expect(versions.outcome).toMatchObject({ refused: [], failing: [], attempts: 1 })
    expect(dialed.ended).toBe('end')
  })

  test('keeps a version away with which it would fail', () => {
    const versions = new ScriptedVersions()
    versions.apply(asking(['10.0.0.1']))

    versions.preflight([asking(['10.0.0.1'], 'other')])
    versions.refuses('28P01')
    // The running one is tried as well.
    versions.logsIn()
    versions.dialed.receive(ready())

    expect(versions.outcome?.refused).toEqual([
      expect.objectContaining({
        message: expect.stringMatching(/auth_query as other in database users.*28P01/) as string,
      }),
    ])
  })
})
