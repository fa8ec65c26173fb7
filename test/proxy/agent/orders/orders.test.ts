import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ControlClock } from '../../../../proxy/agent/orders/control-clock.ts'
import { OrderFile } from '../../../../proxy/agent/orders/order-file.ts'
import { Orders } from '../../../../proxy/agent/orders/orders.ts'
import type { Order } from '../../../../shared/wire.ts'
import { atEndOfFile } from '../../../support/cleanup.ts'
import { tempFolder } from '../../../support/temp-folder.ts'
import { until } from '../until.ts'

function pause(number: number, over: Partial<Order> = {}): Order {
  return { pool: 'app', operation: 'pause', number, version: 0, expires_at: null, reason: null, ...over }
}

async function newOrders(folder?: string) {
  const clock = { nowMs: Date.now() }
  const path = folder ?? (await tempFolder())
  const changes: string[] = []
  const warnings: string[] = []
  const log = (level: string, message: string): void => void (level === 'info' || warnings.push(message))
  const file = new OrderFile(path, 'demo', log)
  const keeps = { file: file as OrderFile | null }
  const orders = new Orders({
    carryOut: async (list) => {
      changes.push(...list.map(({ pool, effect, on }) => `${pool} ${on ? '' : 'not '}${effect}`))
      await Promise.resolve()
    },
    running: () => null,
    nowMs: () => clock.nowMs,
    file: () => keeps.file,
    followMs: 5,
    log,
    onEdge: () => undefined,
  })
  atEndOfFile(async () => await orders.stop())
  return { orders, changes, warnings, clock, file, keeps, path }
}

test('what is known is on disk when it has effect, and the next process begins with it', async () => {
  const first = await newOrders()
  await first.orders.takeAll(1, { number: 3, pools: [pause(3, { reason: 'new host' })] })
  await first.orders.stop()

  const second = await newOrders(first.path)
  await second.orders.takeKept((await second.file.read())!)
  await second.orders.takeAll(1, { number: 2, pools: [] })

  expect(second.orders.known).toEqual(first.orders.known)
  expect(second.changes).toEqual(['app paused'])
})

test('an order expires without control, and stays so in the next process with a clock that was set back', async () => {
  const { orders, changes, clock, file, path } = await newOrders()
  await orders.takeAll(1, {
    number: 1,
    pools: [pause(1, { expires_at: new Date(clock.nowMs + 3_600_000).toISOString() })],
  })

  clock.nowMs += 3_600_000
  await until('the pause has ended', () => changes.includes('app not paused'))
  await orders.stop()
  const next = await newOrders(path)
  next.clock.nowMs = clock.nowMs - 3_000_000
  await next.orders.takeKept((await file.read())!)

  expect(next.orders.inForce).toEqual([])
  expect(next.changes).toEqual([])
})

test.each([
  ['torn', '{"format":1,"fl'],
  ['of another format', '{"format":2}'],
  ['of another fleet', '{"format":1,"fleet":"other","epoch":1,"number":1,"orders":[]}'],
])('a file that is %s is passed over with a warning', async (_, text) => {
  const { file, path, warnings } = await newOrders()
  await writeFile(join(path, 'orders.json'), text)

  expect(await file.read()).toBeUndefined()
  expect(warnings).toHaveLength(1)
})

test('a process that drains follows what the next one keeps', async () => {
  const draining = await newOrders()
  await draining.orders.takeAll(1, { number: 1, pools: [pause(1)] })
  // It has given up the state directory.
  draining.keeps.file = null
  draining.orders.follow(draining.file)
  const next = await newOrders(draining.path)
  await next.orders.takeKept((await next.file.read())!)

  await next.orders.takeAll(1, { number: 2, pools: [pause(2, { operation: 'resume' })] })

  await until('the draining process resumes', () => draining.orders.inForce.length === 0)
  expect(draining.changes).toEqual(['app paused', 'app not paused'])
})

test('the outcome of an order says whether it holds: a newer one overtakes it', async () => {
  const { orders } = await newOrders()
  await orders.takeAll(1, { number: 1, pools: [] })

  const taken = await orders.takeOne(1, pause(3))
  const overtaken = await orders.takeOne(1, pause(2, { operation: 'resume' }))
  await orders.takeAll(1, { number: 3, pools: [pause(3)] })
  const known = await orders.takeOne(1, pause(3))
  const waits = await orders.takeOne(1, pause(4, { operation: 'resume', version: 9 }))

  expect([taken, overtaken, known, waits]).toEqual(['taken', 'overtaken', 'taken', 'waits'])
})

test("control's clock goes on by the monotonic clock, whatever happens to the machine's", () => {
  const wall = { ms: Date.parse('2026-12-01T12:00:00.400Z') }
  const monotonic = { ms: 1000 }
  const clock = new ControlClock(
    () => wall.ms,
    () => monotonic.ms,
  )
  const before = clock.nowMs

  clock.saw(Date.parse('2026-12-01T12:00:00Z'))
  const same = clock.nowMs
  wall.ms -= 3_600_000
  monotonic.ms += 1000
  const stepped = clock.nowMs
  clock.saw(Date.parse('2026-12-01T12:00:02Z'))
  const seenAnew = clock.nowMs

  expect(before).toBe(wall.ms + 3_600_000)
  expect(new Date(same).toISOString()).toBe('2026-12-01T12:00:00.400Z')
  expect(new Date(stepped).toISOString()).toBe('2026-12-01T12:00:01.400Z')
  expect(new Date(seenAnew).toISOString()).toBe('2026-12-01T12:00:02.500Z')
})
