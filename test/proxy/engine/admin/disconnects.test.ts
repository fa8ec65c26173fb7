import { expect, test } from 'vitest'
import type { LostServer } from '../../../../proxy/engine/messages.ts'
import { Disconnects } from '../../../../proxy/engine/admin/disconnects.ts'

function lost(backendPid: number): LostServer {
  return {
    pool: 'app',
    user: 'web',
    host: 'db',
    port: 5432,
    role: 'primary',
    backendPid,
    cause: 'reset',
    errno: 'ECONNRESET',
    sqlstate: null,
    message: null,
    state: 'idle',
    connectionAgeMs: 1,
    idleMs: 1,
    clientHurt: false,
    poolHash: 'a'.repeat(64),
  }
}

test('the newest come first, and the oldest make room', () => {
  const disconnects = new Disconnects(3)

  for (const pid of [1, 2, 3, 4, 5]) disconnects.add(pid, lost(pid))

  expect(disconnects.newestFirst().map(({ atMs, backendPid }) => [atMs, backendPid])).toEqual([
    [5, 5],
    [4, 4],
    [3, 3],
  ])
})

test('a ring that is not full gives what it has', () => {
  const disconnects = new Disconnects(3)
  disconnects.add(1, lost(1))
  disconnects.add(2, lost(2))

  expect(disconnects.newestFirst().map(({ backendPid }) => backendPid)).toEqual([2, 1])
})
