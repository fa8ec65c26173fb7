/** What several workers show becomes what the process shows. */
import { expect, test } from 'vitest'
import { bans } from '../../../proxy/console/show/bans.ts'
import { lists } from '../../../proxy/console/show/lists.ts'
import { peerPools } from '../../../proxy/console/show/peers.ts'
import type { Row, Table } from '../../../proxy/console/table.ts'

function joined({ join }: Table, ofWorkers: readonly (readonly Row[])[]): readonly Row[] {
  if (join === null) throw new Error('every worker shows the same')
  return join(ofWorkers)
}

test('SHOW BANS: an address is banned since the first failure of any worker, until none is held back', () => {
  const failing = (user: string, reason: string, since: string, ...rest: number[]): Row => {
    const [duration = 0, remaining = 0, failures = 0] = rest
    return ['app', user, 'primary', 'db', reason, since, duration, remaining, 5432, '10.0.0.1', failures]
  }

  const rows = joined(bans, [
    [failing('web', 'refused', '2026-11-26 10:00:05', 4, 1, 3)],
    [failing('api', 'refused', '2026-11-26 10:00:07', 1, 1, 1)],
    [failing('web', 'timed out', '2026-11-26 10:00:03', 2, 2, 2)],
  ])

  expect(rows).toEqual([
    failing('api', 'refused', '2026-11-26 10:00:07', 1, 1, 1),
    failing('web', 'timed out', '2026-11-26 10:00:03', 4, 2, 5),
  ])
})

test('SHOW PEER_POOLS: requests to one peer are added up', () => {
  const rows = joined(peerPools, [
    [
      [1, 0, 0, 0, 0],
      [2, 3, 1, 3, 0],
    ],
    [
      [1, 1, 0, 1, 0],
      [2, 4, 0, 4, 0],
    ],
  ])

  expect(rows).toEqual([
    [1, 1, 0, 1, 0],
    [2, 7, 1, 7, 0],
  ])
})

test('SHOW LISTS: a user or database that two workers have made for "*" counts once', () => {
  const name = (database: string, user: string): Row => [JSON.stringify([database, user]), null]

  const rows = joined(lists, [
    [
      ['databases', 3],
      ['users', 3],
      ['pools', 3],
      ['peers', 2],
      ['used_clients', 4],
      name('app', 'web'),
      name('a', 'x'),
    ],
    [
      ['databases', 3],
      ['users', 3],
      ['pools', 3],
      ['peers', 2],
      ['used_clients', 5],
      name('app', 'web'),
      name('b', 'x'),
    ],
  ])

  expect(rows).toEqual([
    ['databases', 4],
    ['users', 3],
    ['pools', 4],
    ['peers', 2],
    ['used_clients', 9],
  ])
})
