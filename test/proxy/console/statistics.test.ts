import { expect, test } from 'vitest'
import { noTotals } from '../../../proxy/engine/pool/totals.ts'
import { Statistics } from '../../../proxy/console/statistics.ts'

/** As much of a PoolName as statistics look at. */
function nameOf(database: string, user: string) {
  const totals = noTotals()
  return { database, user, totals, abandoned: false }
}

const second = 1000

test('averages are per second over the time since a database was first seen, while that is under a minute', () => {
  const statistics = new Statistics(0)
  const web = nameOf('app', 'web')
  statistics.observe([web], second)
  web.totals.query_count = 40
  web.totals.bytes_sent = 8000

  const [app] = statistics.databases([web], 20 * second)

  expect(app).toMatchObject({ database: 'app', averages: { query_count: 2, bytes_sent: 400 } })
})

test('averages forget what is older than a minute', () => {
  const statistics = new Statistics(0)
  const web = nameOf('app', 'web')
  web.totals.query_count = 1_000_000
  for (let nowMs = second; nowMs <= 120 * second; nowMs += second) {
    if (nowMs > 60 * second) web.totals.query_count += 3
    statistics.observe([web], nowMs)
  }

  const [app] = statistics.databases([web], 120 * second)

  expect(app?.averages.query_count).toBeCloseTo(3, 1)
  expect(app?.totals.query_count).toBe(1_000_180)
})

test('the time of a query and of a transaction is averaged per query and per transaction, waiting per second', () => {
  const statistics = new Statistics(0)
  const web = nameOf('app', 'web')
  statistics.observe([web], second)
  Object.assign(web.totals, { query_count: 4, query_time: 2000, xact_count: 2, xact_time: 3000, wait_time: 500 })

  const [app] = statistics.databases([web], 10 * second)

  expect(app?.averages).toMatchObject({ query_time: 500, xact_time: 1500, wait_time: 50 })
})

test('averages of nothing are 0', () => {
  const statistics = new Statistics(0)
  const web = nameOf('app', 'web')

  const [app, console] = statistics.databases([web], 0)

  expect(new Set(Object.values(app?.averages ?? {}))).toEqual(new Set([0]))
  expect(console?.database).toBe('pgbouncer')
})

test('a database is the sum of its users, also of one that left the configuration', () => {
  const statistics = new Statistics(0)
  const web = nameOf('app', 'web')
  const batch = nameOf('app', 'batch')
  web.totals.query_count = 10
  batch.totals.query_count = 5
  statistics.observe([web, batch], second)
  batch.abandoned = true
  statistics.observe([web, batch], 2 * second)

  const [app] = statistics.databases([web], 2 * second)

  expect(app?.totals.query_count).toBe(15)
})

test('a database that came back begins anew', () => {
  const statistics = new Statistics(0)
  const before = nameOf('app', 'web')
  before.totals.query_count = 10
  statistics.observe([before], second)
  before.abandoned = true
  statistics.observe([before], 2 * second)
  statistics.observe([], 3 * second)

  const [app] = statistics.databases([nameOf('app', 'web')], 4 * second)

  expect(app?.totals.query_count).toBe(0)
})
