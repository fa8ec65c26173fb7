import { array, assert, constantFrom, infiniteStream, nat, property, tuple } from 'fast-check'
import { describe, expect, test } from 'vitest'
import { changesBetween, noOrders, settled, withAll, withOne } from '../../../../proxy/agent/orders/known-orders.ts'
import type { KnownOrders, Moment } from '../../../../proxy/agent/orders/known-orders.ts'
import type { Order } from '../../../../shared/wire.ts'

const now: Moment = { running: { epoch: 1, version: 5 }, nowMs: Date.parse('2026-12-01T12:00:00Z') }

function given(number: number, operation: string, over: Partial<Order> = {}): Order {
  return { pool: 'app', operation, number, version: 1, expires_at: null, reason: null, ...over }
}

function listed(number: number, ...pools: Order[]): { number: number; pools: Order[] } {
  return { number, pools }
}

/** What the fleet wants of each pool, as "app paused". */
function inForce({ orders }: KnownOrders): string[] {
  return orders.flatMap(({ pool, effect, holds }) => (holds ? [`${pool} ${effect}`] : [])).toSorted()
}

const paused = withAll(noOrders, 1, listed(5, given(5, 'pause')), now)

describe('the higher number holds', () => {
  test('a list that is older changes nothing, neither what stands nor what has ended', () => {
    const resumed = withAll(paused, 1, listed(6, given(6, 'resume')), now)

    expect(withAll(paused, 1, listed(4), now)).toBe(paused)
    expect(withAll(resumed, 1, listed(5, given(5, 'pause')), now)).toBe(resumed)
    expect([inForce(paused), inForce(resumed)]).toEqual([['app paused'], []])
  })

  test('a single order that is older than the list, or than another one, changes nothing', () => {
    const resumed = withOne(paused, 1, given(7, 'resume'), now)

    expect(withOne(paused, 1, given(5, 'resume'), now)).toBe(paused)
    expect(withOne(resumed, 1, given(6, 'pause'), now)).toBe(resumed)
    expect(inForce(withAll(resumed, 1, listed(6, given(6, 'pause')), now))).toEqual([])
  })

  test('pause and disable of one pool are apart, and so are two pools', () => {
    const known = withAll(
      noOrders,
      1,
      listed(9, given(6, 'disable'), given(9, 'resume'), given(8, 'kill', { pool: 'reports' })),
      now,
    )

    expect(inForce(known)).toEqual(['app disabled', 'reports paused'])
  })

  test('what the list of a higher number leaves out has ended', () => {
    const known = withAll(paused, 1, listed(9), now)

    expect(changesBetween(paused, known)).toEqual([{ pool: 'app', effect: 'paused', on: false }])
  })

  test('a higher epoch begins anew, however low its numbers are; a lower one is ignored', () => {
    const restored = withAll(paused, 2, listed(2, given(2, 'disable')), now)

    expect(inForce(restored)).toEqual(['app disabled'])
    expect(withAll(restored, 1, listed(99, given(99, 'pause')), now)).toBe(restored)
    expect(withOne(restored, 1, given(99, 'pause'), now)).toBe(restored)
  })

  test('a single order of a higher epoch is obeyed, and what stood stands until the list of that epoch', () => {
    const one = withOne(paused, 2, given(1, 'disable'), now)

    expect(inForce(one)).toEqual(['app disabled', 'app paused'])
    expect(inForce(withAll(one, 2, listed(1, given(1, 'disable')), now))).toEqual(['app disabled'])
  })

  test('an operation of a later release is ignored', () => {
    expect(inForce(withAll(noOrders, 1, listed(5, given(5, 'slow_down'), given(4, 'pause')), now))).toEqual([
      'app paused',
    ])
    expect(withOne(paused, 1, given(9, 'toString'), now)).toBe(paused)
  })

  const pools = ['app', 'reports', '*']
  const operation = constantFrom('pause', 'resume', 'disable', 'enable', 'kill')
  const history = array(tuple(constantFrom(...pools), operation), { minLength: 1, maxLength: 12 })

  test('in any order of delivery, repeated or not, in lists or alone', () => {
    const effectOf = (name: string): string => (['disable', 'enable'].includes(name) ? 'disabled' : 'paused')
    const begins = (name: string): boolean => ['pause', 'kill', 'disable'].includes(name)
    assert(
      property(history, infiniteStream(nat()), nat({ max: 30 }), (operations, choices, length) => {
        const orders = operations.map(([pool, name], index) => given(index + 1, name, { pool }))
        const next = (max: number): number => (choices.next().value as number) % max
        // The newest for each effect on a pool, and without what has ended: control forgets it in time.
        const listAt = (number: number, forgets: boolean) => {
          const newest = new Map(
            orders.slice(0, number).map((one) => [`${one.pool} ${effectOf(one.operation)}`, one] as const),
          )
          return listed(number, ...[...newest.values()].filter((one) => !forgets || begins(one.operation)))
        }
        let known = noOrders
        let heardOf = 0
        const alone = new Set<number>()
        for (let delivery = 0; delivery < length; delivery += 1) {
          const number = 1 + next(orders.length)
          if (next(2) === 0) {
            known = withAll(known, 1, listAt(number, next(2) === 0), now)
            heardOf = Math.max(heardOf, number)
          } else {
            known = withOne(known, 1, orders[number - 1]!, now)
            alone.add(number)
          }
        }
        const heard = orders.filter(({ number }) => number <= heardOf || alone.has(number))
        const newest = new Map(heard.map((one) => [`${one.pool} ${effectOf(one.operation)}`, one.operation] as const))
        const expected = [...newest].flatMap(([key, name]) => (begins(name) ? [key] : []))
        expect(inForce(known)).toEqual(expected.toSorted())
      }),
      { numRuns: 500 },
    )
  })
})

describe('changes for the engine', () => {
  test('an order is carried out once, and again when it is given again', () => {
    const again = withAll(paused, 1, listed(6, given(6, 'pause')), now)

    expect(changesBetween(noOrders, paused)).toEqual([{ pool: 'app', effect: 'paused', on: true }])
    expect(changesBetween(paused, withAll(paused, 1, listed(5, given(5, 'pause')), now))).toEqual([])
    expect(changesBetween(paused, again)).toEqual([{ pool: 'app', effect: 'paused', on: true }])
  })

  test('an order for another pool leaves alone what a console has changed', () => {
    const other = withAll(paused, 1, listed(6, given(5, 'pause'), given(6, 'pause', { pool: 'reports' })), now)

    expect(changesBetween(paused, other)).toEqual([{ pool: 'reports', effect: 'paused', on: true }])
  })

  test('the end of an effect also ends what only a console began', () => {
    const resumed = withAll(noOrders, 1, listed(1, given(1, 'resume')), now)

    expect(changesBetween(noOrders, resumed)).toEqual([{ pool: 'app', effect: 'paused', on: false }])
  })
})

describe('expiry', () => {
  const until = '2026-12-01T12:10:00.000Z'
  const at = (time: string): Moment => ({ ...now, nowMs: Date.parse(time) })
  const short = withAll(noOrders, 1, listed(5, given(5, 'pause', { expires_at: until })), now)

  test('the effect ends at its instant, and not before', () => {
    const over = settled(short, at(until))

    expect(settled(short, at('2026-12-01T12:09:59.999Z'))).toBe(short)
    expect(changesBetween(short, over)).toEqual([{ pool: 'app', effect: 'paused', on: false }])
  })

  test('what has expired does not come back with a clock that is set back, nor with the same list', () => {
    const over = settled(short, at(until))
    const again = withAll(over, 1, listed(5, given(5, 'pause', { expires_at: until })), now)

    expect(inForce(settled(over, now))).toEqual([])
    expect(inForce(again)).toEqual([])
  })

  test('an order that arrives after it has expired does nothing', () => {
    const late = withAll(noOrders, 1, listed(5, given(5, 'pause', { expires_at: until })), at(until))

    expect(changesBetween(noOrders, late)).toEqual([])
  })
})

describe('the version of an order that ends an effect', () => {
  const resume = given(6, 'resume', { version: 6 })

  test('the pause holds until the proxy runs it', () => {
    const waiting = withAll(paused, 1, listed(6, resume), now)
    const running = settled(waiting, { ...now, running: { epoch: 1, version: 6 } })

    expect(inForce(waiting)).toEqual(['app paused'])
    expect(changesBetween(paused, waiting)).toEqual([])
    expect(changesBetween(waiting, running)).toEqual([{ pool: 'app', effect: 'paused', on: false }])
    expect(settled(running, now)).toBe(running)
  })

  test('a pause that only a console made waits for it too', () => {
    const waiting = withAll(noOrders, 1, listed(6, resume), now)
    const running = settled(waiting, { ...now, running: { epoch: 1, version: 7 } })

    expect(changesBetween(noOrders, waiting)).toEqual([])
    expect(changesBetween(waiting, running)).toEqual([{ pool: 'app', effect: 'paused', on: false }])
  })

  test('the pause it ends still expires', () => {
    const expires_at = '2026-12-01T12:10:00.000Z'
    const short = withAll(noOrders, 1, listed(5, given(5, 'pause', { expires_at })), now)
    const waiting = withAll(short, 1, listed(6, resume), now)

    expect(inForce(waiting)).toEqual(['app paused'])
    expect(inForce(settled(waiting, { ...now, nowMs: Date.parse(expires_at) }))).toEqual([])
  })
})
