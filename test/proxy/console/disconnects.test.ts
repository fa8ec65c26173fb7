import { expect, test } from 'vitest'
import type { EngineDisconnect } from '../../../shared/disconnect.ts'
import { Disconnects } from '../../../proxy/console/disconnects.ts'

function lost(backend_pid: number): EngineDisconnect {
  return {
    pool: 'app',
    user: 'web',
    host: 'db',
    port: 5432,
    role: 'primary',
    backend_pid,
    cause: 'reset',
    errno: 'ECONNRESET',
    sqlstate: null,
    message: null,
    state: 'idle',
    connection_age_ms: 1,
    idle_ms: 1,
    client_hurt: false,
    pool_hash: 'a'.repeat(64),
  }
}

test('the newest come first, and the oldest make room', () => {
  const disconnects = new Disconnects(3)

  for (const pid of [1, 2, 3, 4, 5]) disconnects.add(pid, lost(pid))

  expect(disconnects.newestFirst().map(({ atMs, backend_pid }) => [atMs, backend_pid])).toEqual([
    [5, 5],
    [4, 4],
    [3, 3],
  ])
})

test('a ring that is not full gives what it has', () => {
  const disconnects = new Disconnects(3)
  disconnects.add(1, lost(1))
  disconnects.add(2, lost(2))

  expect(disconnects.newestFirst().map(({ backend_pid }) => backend_pid)).toEqual([2, 1])
})
