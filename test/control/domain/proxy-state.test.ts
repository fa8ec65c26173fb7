import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { differences, digestOf, mergedPools, poolFactsOf } from '../../../control/domain/pool-facts.ts'
import { highestOf, proxyState } from '../../../control/domain/proxy-state.ts'
import type { Desired, KeptReport, Seen, Told } from '../../../control/domain/proxy-state.ts'
import type { ProxyState } from '../../../shared/api.ts'
import { proxyStates } from '../../../shared/api.ts'
import type { PoolReport, Position, Serving } from '../../../shared/wire.ts'

const at = (version: number, epoch = 1): Position => ({ epoch, version })
const hashes = { a: 'a'.repeat(64), b: 'b'.repeat(64) }
const yes: Serving = { state: 'yes', cause: null, since: null }
const no: Serving = { state: 'no', cause: '08001: connection refused', since: '2026-12-01T12:00:00.000Z' }

const pool = (over: Partial<PoolReport> = {}): PoolReport => ({
  pool: 'app',
  user: 'web',
  hash: hashes.a,
  desired_hash: hashes.a,
  state: 'running',
  draining_servers: 0,
  code: null,
  message: null,
  serving: yes,
  operated: [],
  ...over,
})

const wanted = [{ pool: 'app', user: 'web', hash: hashes.a }]
const desired = (over: Partial<Desired> = {}): Desired => ({
  position: at(3),
  running: digestOf(wanted),
  operated: { paused: [], disabled: [] },
  ...over,
})

const report = (over: Partial<KeptReport> = {}): KeptReport => ({
  boot: 'b',
  seq: 1,
  offered: at(3),
  applied: at(3),
  error: null,
  needs_restart: [],
  dropped_events: 0,
  engine_restarts: [],
  stats: { clients: 0, waiting: 0, servers: 0 },
  ...over,
})

const claimIn = (said: KeptReport | null): Position | null =>
  said === null ? null : highestOf([said.applied, said.offered])

const told = (pools: readonly PoolReport[], over: Partial<Told> = {}): Told => ({
  report: report(),
  facts: poolFactsOf(pools),
  claimed: claimIn(over.report === undefined ? report() : over.report),
  differences: () => differences(wanted, pools),
  ...over,
})

const seen = (over: Partial<Seen> = {}): Seen => ({
  lastSeenMs: 0,
  nowMs: 0,
  pollIntervalMs: 5000,
  twin: null,
  refusedSince: null,
  ...over,
})

const error = { code: 'unresolvable_host', message: 'db is not known', pool: 'app', user: 'web' }
const fine = told([pool()])

const table: readonly (readonly [what: string, Desired, Told, Seen, ProxyState, readonly string[]])[] = [
  ['runs exactly the version', desired(), fine, seen(), 'in_sync', []],
  [
    'has not tried its servers yet',
    desired(),
    told([pool({ serving: { ...yes, state: 'not_yet_tried' } })]),
    seen(),
    'in_sync',
    [],
  ],
  ['drains', desired(), told([pool({ state: 'draining', draining_servers: 3 })]), seen(), 'in_sync', []],
  [
    'is of 0.1.0 and says nothing of serving',
    desired(),
    told([{ ...pool(), serving: undefined, operated: undefined }]),
    seen(),
    'in_sync',
    [],
  ],
  [
    'has a pool that does not serve',
    desired(),
    told([pool({ serving: no })]),
    seen(),
    'degraded',
    ['app/web does not serve since 2026-12-01T12:00:00.000Z: 08001: connection refused'],
  ],
  [
    'runs another hash',
    desired(),
    told([pool({ hash: hashes.b })]),
    seen(),
    'drifted',
    ['app/web runs something else'],
  ],
  [
    'lacks a pool',
    desired({ running: digestOf([...wanted, { pool: 'new', user: 'u', hash: hashes.b }]) }),
    told([pool()], {
      differences: () => differences([...wanted, { pool: 'new', user: 'u', hash: hashes.b }], [pool()]),
    }),
    seen(),
    'drifted',
    ['new/u does not run'],
  ],
  ['reports none of its pools', desired(), told([]), seen(), 'drifted', ['it reports none of its pools']],
  [
    'has a pool more',
    desired(),
    told([pool(), pool({ pool: 'old' })]),
    seen(),
    'drifted',
    ['old/web is not in the configuration'],
  ],
  [
    'only finishes a pool that was removed',
    desired(),
    told([pool(), pool({ pool: 'old', hash: null, draining_servers: 1 })]),
    seen(),
    'in_sync',
    [],
  ],
  [
    'was paused at its console',
    desired(),
    told([pool({ operated: ['paused'] })]),
    seen(),
    'drifted',
    ['app is paused at this proxy'],
  ],
  [
    'is paused as the fleet is',
    desired({ operated: { paused: ['app'], disabled: [] } }),
    told([pool({ operated: ['paused'] })]),
    seen(),
    'in_sync',
    [],
  ],
  [
    'is not disabled as the fleet is',
    desired({ operated: { paused: [], disabled: ['app'] } }),
    fine,
    seen(),
    'drifted',
    ['app is not disabled'],
  ],
  ['is suspended', desired(), told([pool({ operated: ['suspended'] })]), seen(), 'drifted', ['it is suspended']],
  [
    'has a key that was SET',
    desired(),
    told([pool()], { report: report({ overridden: ['pool_size'] }) }),
    seen(),
    'drifted',
    ['pool_size was SET at its console'],
  ],
  [
    'differs and does not serve',
    desired(),
    told([pool({ hash: hashes.b, serving: no })]),
    seen(),
    'drifted',
    ['app/web runs something else', 'app/web does not serve since 2026-12-01T12:00:00.000Z: 08001: connection refused'],
  ],
  [
    'could not apply it',
    desired(),
    told([pool()], { report: report({ applied: at(2), error }) }),
    seen(),
    'failed',
    ['unresolvable_host in app/web: db is not known'],
  ],
  [
    'has received it',
    desired(),
    told([pool()], { report: report({ applied: at(2) }) }),
    seen(),
    'applying',
    ['it runs v2'],
  ],
  [
    'has received its first',
    desired(),
    told([], { report: report({ applied: null }) }),
    seen(),
    'applying',
    ['it runs nothing yet'],
  ],
  [
    'has not received it',
    desired(),
    told([pool()], { report: report({ offered: at(2), applied: at(2) }) }),
    seen(),
    'behind',
    ['it runs v2'],
  ],
  [
    'failed at the version before',
    desired(),
    told([pool()], { report: report({ offered: at(2), applied: at(1), error }) }),
    seen(),
    'behind',
    ['it runs v1'],
  ],
  [
    'has not reported',
    desired(),
    told([], { report: null, facts: null }),
    seen(),
    'behind',
    ['it has not reported yet'],
  ],
  [
    'is of a lower epoch',
    desired({ position: at(3, 2) }),
    told([pool()], { report: report({ applied: at(9) }) }),
    seen(),
    'behind',
    ['it runs v9'],
  ],
  [
    'runs more than control has',
    desired(),
    told([pool()], { report: report({ applied: at(9), error }) }),
    seen(),
    'regressed',
    ["it is at v9, above control's v3: if control's store was restored, `flotilla epoch raise`"],
  ],
  [
    'is of a higher epoch',
    desired(),
    told([pool()], { report: report({ applied: at(1, 2) }) }),
    seen(),
    'regressed',
    ["it is at v1 of epoch 2, above control's v3: if control's store was restored, `flotilla epoch raise`"],
  ],
  [
    'says at hello that it is above',
    desired(),
    told([], { report: null, facts: null, claimed: at(9) }),
    seen(),
    'regressed',
    ["it is at v9, above control's v3: if control's store was restored, `flotilla epoch raise`"],
  ],
  [
    'is above a store that has no version',
    desired({ position: at(0), running: digestOf([]) }),
    fine,
    seen(),
    'regressed',
    ["it is at v3, above control's v0: if control's store was restored, `flotilla epoch raise`"],
  ],
  [
    'waits for the first version',
    desired({ position: at(0), running: digestOf([]) }),
    told([], { report: null, facts: null }),
    seen(),
    'in_sync',
    [],
  ],
  [
    'has a twin',
    desired(),
    told([pool({ serving: no })]),
    seen({ twin: 'b2' }),
    'duplicate',
    ['another process has the same name (boot b2)'],
  ],
  [
    'was not seen for long',
    desired(),
    fine,
    seen({ nowMs: 25_001, twin: 'b2' }),
    'offline',
    ['not seen since 1970-01-01T00:00:00.000Z'],
  ],
  ['was never seen', desired(), fine, seen({ lastSeenMs: undefined }), 'offline', ['never seen']],
  [
    'comes with a token that was revoked',
    desired(),
    fine,
    seen({ nowMs: 25_001, refusedSince: '1970-01-01T00:00:05.000Z' }),
    'offline',
    ['not seen since 1970-01-01T00:00:00.000Z; its token was revoked, and is refused since 1970-01-01T00:00:05.000Z'],
  ],
]

test.for(table)('a proxy that %s', ([, wants, says, contact, state, reasons]) => {
  expect(proxyState(wants, says, contact)).toEqual({ state, reasons })
})

test('the table has every state', () => {
  expect([...new Set(table.map(([, , , , state]) => state))].toSorted()).toEqual([...proxyStates].toSorted())
})

const anyPosition = fc.record({ epoch: fc.integer({ min: 1, max: 2 }), version: fc.integer({ min: 0, max: 3 }) })
const orNull = <Value>(value: fc.Arbitrary<Value>) => fc.option(value, { freq: 5 })
const anyPool = fc.record({
  pool: fc.constantFrom('app', 'other'),
  user: fc.constantFrom('web', 'batch'),
  hash: orNull(fc.constantFrom(hashes.a, hashes.b)),
  serving: fc.constantFrom(yes, no, undefined),
  operated: fc.subarray(['paused', 'disabled', 'suspended'] as const),
})
const anyPools = fc
  .uniqueArray(anyPool, { maxLength: 3, selector: ({ pool, user }) => `${pool}/${user}` })
  .map((pools) => pools.map((over) => pool(over as Partial<PoolReport>)))

test('in_sync means: online, alone, at the version, every hash as control made it, serving, and untouched', () => {
  const world = fc.record({
    position: anyPosition,
    wants: fc.uniqueArray(
      fc.record({ pool: fc.constantFrom('app', 'other'), user: fc.constant('web'), hash: fc.constantFrom(hashes.a) }),
      { selector: (one) => one.pool },
    ),
    paused: fc.subarray(['app', 'other']),
    pools: anyPools,
    offered: orNull(anyPosition),
    applied: orNull(anyPosition),
    error: fc.constantFrom(null, error),
    overridden: fc.subarray(['pool_size']),
    claimed: orNull(anyPosition),
    ageMs: fc.constantFrom(0, 25_001),
    twin: fc.constantFrom(null, null, 'b2'),
  })
  fc.assert(
    fc.property(
      world,
      ({ position, wants, paused, pools, offered, applied, error: fault, overridden, claimed, ageMs, twin }) => {
        const { state, reasons } = proxyState(
          { position, running: digestOf(wants), operated: { paused, disabled: [] } },
          {
            report: report({ offered, applied, error: fault, overridden }),
            facts: poolFactsOf(pools),
            claimed: highestOf([claimed, applied, offered]),
            differences: () => differences(wants, pools),
          },
          seen({ nowMs: ageMs, twin }),
        )

        expect(reasons.length === 0).toBe(state === 'in_sync')
        if (state !== 'in_sync' || position.version === 0) return
        const byName = (all: readonly { pool: string; user: string; hash: string | null }[]): string[] =>
          all.map(({ pool: name, user, hash }) => `${name}/${user} ${hash}`).toSorted()
        const runs = pools.filter(({ hash }) => hash !== null)
        expect(ageMs).toBe(0)
        expect(twin).toBe(null)
        expect(applied).toEqual(position)
        expect(byName(runs)).toEqual(byName(wants))
        expect(pools.filter(({ serving }) => serving?.state === 'no')).toEqual([])
        expect(overridden).toEqual([])
        const operated = new Set(pools.flatMap((one) => one.operated?.map((what) => `${what} ${one.pool}`) ?? []))
        expect([...operated].toSorted()).toEqual(paused.map((name) => `paused ${name}`).toSorted())
      },
    ),
    { numRuns: 2000 },
  )
})

test('changes merged one after the other give what was last told of each pool', () => {
  const changes = fc.array(fc.record({ changed: anyPools, removed: anyPools }), { maxLength: 6 })
  fc.assert(
    fc.property(changes, (all) => {
      const model = new Map<string, PoolReport>()
      let merged: PoolReport[] = []
      for (const { changed, removed } of all) {
        for (const one of removed) model.delete(`${one.pool}/${one.user}`)
        for (const one of changed) model.set(`${one.pool}/${one.user}`, one)
        merged = mergedPools(merged, changed, removed)
      }
      expect(new Map(merged.map((one) => [`${one.pool}/${one.user}`, one]))).toEqual(model)
    }),
  )
})
