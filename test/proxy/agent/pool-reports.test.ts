import { expect, test } from 'vitest'
import { ApplyError } from '../../../proxy/agent/failure.ts'
import { poolChanges, PoolReports, toldPools } from '../../../proxy/agent/pool-reports.ts'
import type { EngineSnapshot, PoolSnapshot, ServingSnapshot } from '../../../proxy/snapshot.ts'
import { reportSchema } from '../../../shared/wire.ts'

const snapshotOf = (pools: Partial<PoolSnapshot>[]): EngineSnapshot => ({
  running: null,
  clients: 0,
  clientsLogin: 0,
  loginsDelayed: 0,
  // Only what a report reads.
  pools: pools.map((pool) => ({ serversDraining: 0, serving: null, ...pool }) as PoolSnapshot),
  refused: {},
  overrides: [],
  authQueries: [],
})
const nowMs = Date.parse('2026-12-01T12:00:00Z')
const reports = (snapshot: EngineSnapshot, desired: ReturnType<typeof wanted>[], error: ApplyError | null = null) =>
  new PoolReports().of(snapshot, { desired, error, nowMs })
const wanted = (pool: string, user: string, hash: string) => ({ pool, user, hash, connect_hash: hash })

test('a pool that is wanted and not there has no hash, one that goes has no desired hash', () => {
  const snapshot = snapshotOf([{ pool: 'old', user: 'u', hash: 'h1', serversDraining: 2 }])

  const pools = reports(snapshot, [wanted('new', 'u', 'h2')])

  expect(pools).toEqual([
    {
      pool: 'old',
      user: 'u',
      hash: 'h1',
      desired_hash: null,
      state: 'draining',
      draining_servers: 2,
      code: null,
      message: null,
      serving: { state: 'not_yet_tried', cause: null, since: null },
      operated: [],
      overridden: [],
    },
    {
      pool: 'new',
      user: 'u',
      hash: null,
      desired_hash: 'h2',
      state: 'running',
      draining_servers: 0,
      code: null,
      message: null,
      operated: [],
      overridden: [],
    },
  ])
})

const hashA = 'a'.repeat(64)

test('pools that were made for "*" are counted in its line; what outlives it has lines of its own', () => {
  const made = { template: { pool: 'app', user: '*' }, hash: hashA }
  const gone = { template: { pool: 'gone', user: '*' }, hash: null }
  const snapshot = snapshotOf([
    { pool: 'app', user: '*', hash: hashA },
    { pool: 'app', user: 'a', ...made, serversDraining: 1 },
    { pool: 'app', user: 'b', ...made, serversDraining: 2 },
    { pool: 'gone', user: 'c', ...gone, serversDraining: 1 },
  ])

  const pools = reports(snapshot, [wanted('app', '*', hashA)])

  expect(pools).toMatchObject([
    { pool: 'app', user: '*', desired_hash: hashA, state: 'draining', draining_servers: 3, dynamic_pools: 2 },
    { pool: 'gone', user: 'c', desired_hash: null, state: 'draining', draining_servers: 1 },
  ])
  expect(reportSchema.shape.pools.safeParse(pools).success).toBe(true)
})

test('an error marks the pool it is about, and no other', () => {
  const snapshot = snapshotOf([
    { pool: 'app', user: 'web', hash: 'h1' },
    { pool: 'app', user: 'batch', hash: 'h1' },
  ])
  const error = new ApplyError('unresolvable_host', 'no address', { pool: 'app', user: 'web' })

  const pools = reports(snapshot, [wanted('app', 'web', 'h2'), wanted('app', 'batch', 'h2')], error)

  expect(pools.map(({ user, state, code }) => [user, state, code])).toEqual([
    ['web', 'failed', 'unresolvable_host'],
    ['batch', 'running', null],
  ])
})

const failed = (forMs: number): ServingSnapshot => ({
  state: 'failed',
  sqlstate: '28P01',
  message: 'password authentication failed',
  forMs,
})

test('a pool does not serve while logins to its servers fail, with the cause and since when', () => {
  const pool = (user: string, serving: ServingSnapshot) => ({ pool: 'app', user, hash: hashA, serving })
  const snapshot = snapshotOf([
    pool('failed', failed(3000)),
    pool('present', { state: 'present' }),
    pool('proven', { state: 'proven' }),
    pool('untried', { state: 'untried' }),
  ])

  const told = reports(snapshot, []).map(({ serving }) => serving)

  const cause = '28P01: password authentication failed'
  expect(told).toEqual([
    { state: 'no', cause, since: '2026-12-01T11:59:57.000Z' },
    { state: 'yes', cause: null, since: null },
    { state: 'yes', cause: null, since: null },
    { state: 'not_yet_tried', cause: null, since: null },
  ])
})

test('a pool that still does not serve is told in the same words, and anew after it served', () => {
  const reporting = new PoolReports()
  const at = (laterMs: number, serving: ServingSnapshot) =>
    reporting.of(snapshotOf([{ pool: 'app', user: 'web', hash: hashA, serving }]), {
      desired: [],
      error: null,
      nowMs: nowMs + laterMs,
    })
  const first = at(0, failed(3000))

  const still = at(10_000, failed(13_001))
  const serves = at(20_000, { state: 'present' })
  const again = at(30_000, failed(1000))

  expect(still).toEqual(first)
  expect(poolChanges(toldPools(first), still)).toEqual({ changed: [], removed: [] })
  expect(serves[0]?.serving?.state).toBe('yes')
  expect(again[0]?.serving?.since).toBe('2026-12-01T12:00:29.000Z')
})

test('"*" does not serve if the pools made for it do not', () => {
  const made = (user: string, serving: ServingSnapshot) =>
    ({ pool: 'app', user, hash: hashA, template: { pool: 'app', user: '*' }, serving }) as const
  const template = { pool: 'app', user: '*', hash: hashA, serving: null }

  const states = [[failed(1), failed(2)], [{ state: 'present' } as const, failed(2)], []].map((all) => {
    const snapshot = snapshotOf([template, ...all.map((serving, index) => made(`u${index}`, serving))])
    return reports(snapshot, [wanted('app', '*', hashA)])[0]?.serving?.state
  })

  expect(states).toEqual(['no', 'yes', 'not_yet_tried'])
})

test('what operators did is told for each pool that it concerns', () => {
  const snapshot = snapshotOf([
    { pool: 'app', user: 'web', hash: hashA },
    { pool: 'other', user: 'web', hash: hashA },
  ])
  const operated = { pausedAll: false, paused: ['app'], disabled: ['app'], suspended: false, overrides: [] }
  const of = (state: typeof operated) =>
    new PoolReports().of(snapshot, { desired: [], error: null, operated: state, nowMs }).map((pool) => pool.operated)

  expect(of(operated)).toEqual([['paused', 'disabled'], []])
  expect(of({ ...operated, pausedAll: true, disabled: [] })).toEqual([['paused'], ['paused']])
  expect(of({ ...operated, paused: [], suspended: true })).toEqual([['disabled', 'suspended'], ['suspended']])
})

test('changes are pools that are new, told otherwise, or gone', () => {
  const before = reports(snapshotOf(['kept', 'changed', 'gone'].map((pool) => ({ pool, user: 'u', hash: hashA }))), [])
  const now = reports(
    snapshotOf([
      { pool: 'kept', user: 'u', hash: hashA },
      { pool: 'changed', user: 'u', hash: 'b'.repeat(64) },
      { pool: 'new', user: 'u', hash: hashA },
    ]),
    [],
  )

  const { changed, removed } = poolChanges(toldPools(before), now)

  expect(changed.map(({ pool }) => pool)).toEqual(['changed', 'new'])
  expect(removed).toEqual([{ pool: 'gone', user: 'u' }])
})
