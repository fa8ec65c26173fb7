import { expect, test } from 'vitest'
import type { Disconnects, DisconnectSummary } from '../../shared/api.ts'
import type { Report } from '../../shared/wire.ts'
import { document, inProcessControl, lost, report } from './in-process.ts'
import type { InProcessControl } from './in-process.ts'

const minute = (number: number): string => `2026-11-23T18:${String(number).padStart(2, '0')}:00.000Z`

interface Setting {
  readonly control: InProcessControl
  readonly send: (events: Report['events'], proxy?: string) => Promise<void>
  readonly list: (query?: string) => Promise<Disconnects>
}

async function setting(): Promise<Setting> {
  const control = await inProcessControl()
  const token = await control.fleet()
  await control.apply(document())
  let seq = 0
  return {
    control,
    send: async (events, proxy = 'p1') => {
      seq += 1
      const { status } = await control.call('POST', `/v1/fleets/demo/proxies/${proxy}/reports`, {
        token,
        body: report(1, { seq, events }),
      })
      expect(status).toBe(200)
    },
    list: async (query = '') => {
      const { status, body } = await control.call<Disconnects>('GET', `/v1/fleets/demo/disconnects${query}`)
      expect(status).toBe(200)
      return body
    },
  }
}

const ids = ({ disconnects }: Disconnects): string[] => disconnects.map(({ id }) => id)

test('an event is shown with everything the proxy told of it', async () => {
  const { send, list } = await setting()

  await send([lost('e1')])

  expect((await list()).disconnects).toEqual([{ ...lost('e1'), proxy: 'p1', received_at: '2026-11-23T19:00:00.000Z' }])
})

test('what a later release says of an event is kept and shown: its causes, states, roles and fields', async () => {
  const { control, send, list } = await setting()
  const later = { cause: 'fenced', state: 'in pipeline', role: 'witness', lag_bytes: 17, at: minute(1) }

  const event = Object.assign(lost('later'), later, { proxy: 'another' })
  await send([event, lost('known', { at: minute(2) })])
  const { disconnects } = await list('?cause=fenced')
  const summary = await control.call<DisconnectSummary>('GET', '/v1/fleets/demo/disconnects/summary')

  const received_at = '2026-11-23T19:00:00.000Z'
  expect(disconnects).toEqual([{ ...lost('later'), ...later, proxy: 'p1', received_at }])
  expect(summary.body.summary.map(({ cause }) => cause)).toContain('fenced')
})

test('fields of a later release that are too long are not kept, and the event is', async () => {
  const { send, list } = await setting()

  await send([{ ...lost('later'), essay: 'x'.repeat(5000) } as Report['events'][number]])

  expect((await list()).disconnects[0]).not.toHaveProperty('essay')
})

test('116: events are listed by when they happened, newest first, however late they arrive', async () => {
  const { send, list } = await setting()

  await send([lost('second', { at: minute(2) }), lost('fourth', { at: minute(4) })])
  await send([lost('third', { at: '2026-11-23T18:03:00Z' }), lost('first', { at: minute(1) })])

  expect(ids(await list())).toEqual(['fourth', 'third', 'second', 'first'])
})

test('pages fit together even when events arrive between them', async () => {
  const { send, list } = await setting()
  await send([1, 2, 3, 4, 5].map((number) => lost(`e${number}`, { at: minute(number) })))
  await send([lost('same-time', { at: minute(3) })])

  const first = await list('?limit=2')
  await send([lost('new', { at: minute(9) })])
  const second = await list(`?limit=2&cursor=${first.next}`)
  const third = await list(`?limit=2&cursor=${second.next}`)
  const fourth = await list(`?limit=2&cursor=${third.next}`)

  expect([first, second, third].map(ids)).toEqual([
    ['e5', 'e4'],
    ['same-time', 'e3'],
    ['e2', 'e1'],
  ])
  expect([ids(fourth), fourth.next]).toEqual([[], null])
})

test('who follows is told each arrival once, in the order of arrival', async () => {
  const { send, list } = await setting()
  await send([lost('old', { at: minute(5) })])
  const first = await list()

  await send([lost('late', { at: minute(1) }), lost('fresh', { at: minute(6) })])
  const second = await list(`?follow=${first.follow}`)
  const third = await list(`?follow=${second.follow}`)

  expect(ids(second)).toEqual(['late', 'fresh'])
  expect([ids(third), third.follow]).toEqual([[], second.follow])
})

test('filters by pool, host, cause, proxy and time can be joined', async () => {
  const { send, list } = await setting()
  await send([
    lost('a', { at: minute(1), pool: 'one', host: 'h1', cause: 'reset' }),
    lost('b', { at: minute(2), pool: 'one', host: 'h2', cause: 'reset' }),
    lost('c', { at: minute(3), pool: 'two', host: 'h1', cause: 'closed' }),
  ])
  await send([lost('d', { at: minute(4), pool: 'two', host: 'h1', cause: 'reset' })], 'p2')

  expect(ids(await list('?pool=one'))).toEqual(['b', 'a'])
  expect(ids(await list('?host=h1'))).toEqual(['d', 'c', 'a'])
  expect(ids(await list('?cause=closed'))).toEqual(['c'])
  expect(ids(await list('?proxy=p2'))).toEqual(['d'])
  expect(ids(await list(`?since=${minute(3)}`))).toEqual(['d', 'c'])
  expect(ids(await list(`?since=${encodeURIComponent('2026-11-23T20:03:00+02:00')}`))).toEqual(['d', 'c'])
  expect(ids(await list('?host=h1&cause=reset&pool=one'))).toEqual(['a'])
})

test('a filter that cannot match anything known is refused', async () => {
  const { control } = await setting()

  for (const query of ['cause=', 'since=yesterday', 'cursor=x', 'follow=-1', 'limit=0', 'limit=1001']) {
    const answer = await control.call('GET', `/v1/fleets/demo/disconnects?${query}`)
    expect([query, answer.status]).toEqual([query, 422])
    expect(answer.body).toMatchObject({ errors: [{ path: query.split('=')[0] }] })
  }
})

test('the summary counts by host, cause and minute, and how many clients were hurt', async () => {
  const { control, send } = await setting()
  await send([
    lost('a', { at: '2026-11-23T18:01:10Z', client_hurt: true }),
    lost('b', { at: '2026-11-23T18:01:50Z' }),
    lost('c', { at: '2026-11-23T18:02:00Z' }),
    lost('d', { at: '2026-11-23T18:01:20Z', host: 'other', cause: 'reset' }),
  ])

  const { body } = await control.call<DisconnectSummary>('GET', '/v1/fleets/demo/disconnects/summary')

  expect(body.summary).toEqual([
    {
      host: '10.0.0.1',
      port: 5432,
      cause: 'keepalive_timeout',
      minute: '2026-11-23T18:02:00Z',
      count: 1,
      clients_hurt: 0,
    },
    {
      host: '10.0.0.1',
      port: 5432,
      cause: 'keepalive_timeout',
      minute: '2026-11-23T18:01:00Z',
      count: 2,
      clients_hurt: 1,
    },
    { host: 'other', port: 5432, cause: 'reset', minute: '2026-11-23T18:01:00Z', count: 1, clients_hurt: 0 },
  ])
})

test('the same event id of two proxies is two events', async () => {
  const { send, list } = await setting()

  await send([lost('e1')], 'p1')
  await send([lost('e1')], 'p2')

  expect((await list()).disconnects.map(({ proxy }) => proxy).toSorted()).toEqual(['p1', 'p2'])
})

test('an event goes when a hundred thousand newer ones of its fleet have arrived, and none for another fleet', async () => {
  const { control, send, list } = await setting()
  const quiet = await control.fleet('quiet')
  await send([lost('old'), lost('kept')])
  const sendQuietly = async (seq: number, id: string) =>
    await control.call('POST', '/v1/fleets/quiet/proxies/p1/reports', {
      token: quiet,
      body: report(1, { seq, events: [lost(id)] }),
    })
  await sendQuietly(1, 'quiet')
  // The store numbers arrivals; jumping ahead stands for those in between.
  await control.host.store.write([
    { toSQL: () => ({ sql: 'UPDATE disconnects SET arrival = 100001 WHERE id = ?', params: ['kept'] }) },
    { toSQL: () => ({ sql: 'UPDATE sqlite_sequence SET seq = 100001 WHERE name = ?', params: ['disconnects'] }) },
  ])

  await send([lost('new')])
  await sendQuietly(2, 'quiet too')

  expect(ids(await list()).toSorted()).toEqual(['kept', 'new'])
  const others = await control.call<Disconnects>('GET', '/v1/fleets/quiet/disconnects')
  expect(ids(others.body).toSorted()).toEqual(['quiet', 'quiet too'])
})
