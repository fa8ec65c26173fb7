import { join } from 'node:path'
import { expect, test } from 'vitest'
import { defaultWaits, type Waits } from '../../../proxy/agent/clock.ts'
import { ControlError } from '../../../proxy/agent/control-client.ts'
import { Outbox } from '../../../proxy/agent/outbox.ts'
import { Reports } from '../../../proxy/agent/reports.ts'
import { eventOf } from '../../../proxy/agent/event.ts'
import type { PoolReport, Report, ReportResponse } from '../../../shared/wire.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { lostServer } from './disconnect-event.ts'
import { until } from './until.ts'

/** `answer` decides about each report by its place in the order of sending. */
async function newReports(
  answer: (report: Report, index: number) => ReportResponse | ControlError,
  pools: () => PoolReport[] = () => [],
  waits: Partial<Waits> = {},
) {
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
        pools: pools(),
        engine_restarts: [],
        stats: { clients: 0, waiting: 0, servers: 0 },
      }),
    outbox,
    waits: { ...defaultWaits, backoffFirstMs: 10, backoffMaxMs: 20, reportIntervalMs: 60_000, ...waits },
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

const pool = (name: string, over: Partial<PoolReport> = {}): PoolReport => ({
  pool: name,
  user: 'u',
  hash: 'a'.repeat(64),
  desired_hash: 'a'.repeat(64),
  state: 'running',
  draining_servers: 0,
  code: null,
  message: null,
  ...over,
})
const remembers = (report: Report): ReportResponse => ({ ...taken(report), pools: 'changed' })
/** Of each report: the report it is about, the pools it tells, and those that are gone. */
const toldBy = ({ base, pools, pools_removed }: Report) => [
  base ?? null,
  pools.map((one) => one.pool),
  pools_removed?.map((one) => one.pool) ?? null,
]

test('pools that have not changed are left out after a control that remembers them has acknowledged them', async () => {
  let now = [pool('a'), pool('b'), pool('c')]
  const { reports, sent } = await newReports(remembers, () => now)
  reports.start()
  await until('the first', () => sent.length === 1)
  now = [pool('a'), pool('b', { operated: ['paused'] })]
  reports.edge()
  await until('the second', () => sent.length === 2)
  reports.edge()
  await until('the third', () => sent.length === 3)

  expect(sent.map(toldBy)).toEqual([
    [null, ['a', 'b', 'c'], null],
    [1, ['b'], ['c']],
    [2, [], []],
  ])
})

test('a control that does not say that it remembers gets all pools, like one of 0.1.0', async () => {
  const { reports, sent } = await newReports(taken, () => [pool('a')])
  reports.start()
  await until('the first', () => sent.length === 1)
  reports.edge()
  await until('the second', () => sent.length === 2)

  expect(sent.map(toldBy)).toEqual([
    [null, ['a'], null],
    [null, ['a'], null],
  ])
})

test('a control that has lost what it knew gets all pools at once, and so does one that answers a hello', async () => {
  const { reports, sent } = await newReports(
    (report, index) => (index === 1 ? { ...taken(report), pools: 'all' } : remembers(report)),
    () => [pool('a')],
  )
  reports.start()
  await until('the first', () => sent.length === 1)
  reports.edge()
  await until('the one that is sent because control asked', () => sent.length === 3)
  reports.greeted(undefined)
  await until('the one after the hello', () => sent.length === 4)

  expect(sent.map(toldBy)).toEqual([
    [null, ['a'], null],
    [1, [], []],
    [null, ['a'], null],
    [null, ['a'], null],
  ])
})

test('while a pool does not serve, changes are looked for, and reported only when there are some', async () => {
  let looked = 0
  let serving: PoolReport['serving'] = { state: 'no', cause: 'x', since: '2026-12-01T12:00:00.000Z' }
  const { reports, sent } = await newReports(
    remembers,
    () => {
      looked += 1
      return [pool('a', { serving })]
    },
    { drainingReportMs: 5 },
  )
  reports.start()
  await until('it looked several times', () => looked > 4)
  const before = sent.length
  serving = { state: 'yes', cause: null, since: null }
  await until('the change is reported', () => sent.length > before)
  const calm = looked

  expect(before).toBe(1)
  expect(sent.map(({ pools }) => pools[0]?.serving?.state)).toEqual(['no', 'yes'])
  expect(looked).toBe(calm)
})

test('control says how often it wants reports', async () => {
  const { reports, sent } = await newReports((report) => ({ ...remembers(report), report_interval_ms: 5 }))

  reports.start()
  await until('three were sent, without news', () => sent.length >= 3)
  await reports.stop()

  expect(sent.slice(1, 3).map(toldBy)).toEqual([
    [1, [], []],
    [2, [], []],
  ])
})
