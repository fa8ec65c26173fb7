import { join } from 'node:path'
import { expect, test } from 'vitest'
import { defaultWaits } from '../../../proxy/agent/clock.ts'
import { ControlError } from '../../../proxy/agent/control-client.ts'
import { ApplyError } from '../../../proxy/agent/failure.ts'
import { Outbox } from '../../../proxy/agent/outbox.ts'
import { poolReports, Reports } from '../../../proxy/agent/reports.ts'
import { eventOf } from '../../../proxy/agent/event.ts'
import type { EngineSnapshot, PoolSnapshot } from '../../../proxy/snapshot.ts'
import { reportSchema } from '../../../shared/wire.ts'
import type { Report, ReportResponse } from '../../../shared/wire.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { lostServer } from './disconnect-event.ts'
import { until } from './until.ts'

/** `answer` decides about each report by its place in the order of sending. */
async function newReports(answer: (report: Report, index: number) => ReportResponse | ControlError) {
  const outbox = await Outbox.open({
    path: join(await tempFolder(), 'outbox.log'),
    eventsMax: 1000,
    log: () => undefined,
  })
  const sent: Report[] = []
  let unknown = 0
  const reports = new Reports({
    boot: 'b1',
    send: async (report) => {
      const answered = answer(report, sent.push(structuredClone(report)) - 1)
      return answered instanceof ControlError ? await Promise.reject(answered) : await Promise.resolve(answered)
    },
    state: async () =>
      await Promise.resolve({
        offered: null,
        applied: null,
        error: null,
        needs_restart: [],
        pools: [],
        engine_restarts: [],
        stats: { clients: 0, waiting: 0, servers: 0 },
      }),
    outbox,
    waits: { ...defaultWaits, backoffFirstMs: 10, backoffMaxMs: 20, reportIntervalMs: 60_000 },
    random: () => 0.5,
    log: () => undefined,
    onAnswer: () => undefined,
    onUnknown: () => (unknown += 1),
  })
  atEndOfFile(async () => {
    await reports.stop()
    await outbox.close()
  })
  const lose = (id: string): void => outbox.append(eventOf(lostServer, id, new Date(0)))
  return { reports, outbox, sent, lose, unknownCount: () => unknown }
}

const taken = (report: Report): ReportResponse => ({ ack: report.seq, poll_interval_ms: 1000 })
const away = new ControlError('unreachable', 'away')

test('a report whose answer was lost is sent again word by word, under its number', async () => {
  const { reports, sent, lose } = await newReports((report, index) => (index < 2 ? away : taken(report)))
  lose('a')
  reports.start()
  await until('two were sent', () => sent.length === 2)
  lose('b')
  reports.edge()

  await until('the next report', () => sent.some(({ seq }) => seq === 2))

  expect(sent[1]).toEqual(sent[0])
  expect(sent[2]).toEqual(sent[0])
  expect(sent[3]).toMatchObject({ boot: 'b1', seq: 2, events: [{ id: 'b' }] })
})

test('events leave the outbox when they are acknowledged, and not before', async () => {
  let open = false
  const { reports, outbox, sent, lose } = await newReports((report) => (open ? taken(report) : away))
  lose('a')
  reports.start()
  await until('it was tried', () => sent.length >= 2)
  const before = outbox.size
  open = true

  await until('it is acknowledged', () => outbox.size === 0)

  expect(before).toBe(1)
})

test('more events than a report holds are sent in as many reports as they need', async () => {
  const { reports, outbox, sent, lose } = await newReports(taken)
  for (let i = 0; i < 750; i += 1) lose(`e${i}`)

  reports.start()
  await until('all are acknowledged', () => outbox.size === 0)

  expect(sent.map(({ events }) => events.length)).toEqual([500, 250])
})

test('an event that control refuses does not hold back the others', async () => {
  const refused = new ControlError('refused', '422')
  const { reports, outbox, sent, lose } = await newReports((report) =>
    report.events.some(({ id }) => id === 'bad') ? refused : taken(report),
  )
  for (const id of ['a', 'b', 'bad', 'c', 'd']) lose(id)

  reports.start()
  await until('none is left', () => outbox.size === 0)

  const accepted = sent.filter(({ events }) => events.every(({ id }) => id !== 'bad'))
  expect(accepted.flatMap(({ events }) => events.map(({ id }) => id))).toEqual(['a', 'b', 'c', 'd'])
  expect(outbox.droppedEvents).toBe(1)
})

test('edges that come together make one report', async () => {
  const { reports, sent } = await newReports(taken)
  reports.start()
  await until('the first report', () => sent.length === 1)

  for (let i = 0; i < 100; i += 1) reports.edge()
  await until('the second report', () => sent.length === 2)
  await reports.stop()

  expect(sent).toHaveLength(2)
})

test('a control that does not know the proxy is greeted again', async () => {
  const { reports, sent, unknownCount } = await newReports((report, index) =>
    index === 0 ? new ControlError('missing', '404') : taken(report),
  )

  reports.start()
  await until('a report is taken', () => sent.length === 2)

  expect(unknownCount()).toBe(1)
})

const snapshotOf = (pools: Partial<PoolSnapshot>[]): EngineSnapshot => ({
  running: null,
  clients: 0,
  clientsLogin: 0,
  loginsDelayed: 0,
  // Only what a report reads.
  pools: pools.map((pool) => ({ serversDraining: 0, ...pool }) as PoolSnapshot),
  refused: {},
  overrides: [],
  authQueries: [],
})
const wanted = (pool: string, user: string, hash: string) => ({ pool, user, hash, connect_hash: hash })

test('a pool that is wanted and not there has no hash, one that goes has no desired hash', () => {
  const snapshot = snapshotOf([{ pool: 'old', user: 'u', hash: 'h1', serversDraining: 2 }])

  const pools = poolReports(snapshot, [wanted('new', 'u', 'h2')], null)

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

  const pools = poolReports(snapshot, [wanted('app', '*', hashA)], null)

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

  const pools = poolReports(snapshot, [wanted('app', 'web', 'h2'), wanted('app', 'batch', 'h2')], error)

  expect(pools.map(({ user, state, code }) => [user, state, code])).toEqual([
    ['web', 'failed', 'unresolvable_host'],
    ['batch', 'running', null],
  ])
})
