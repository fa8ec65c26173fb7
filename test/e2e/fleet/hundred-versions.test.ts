import { readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { Postgres } from '../../support/postgres.ts'
import { backends, common, fleet, Load, openConsole, startWorld, untilRuns } from './world.ts'

const versions = 100
const clients = 50
const poolSize = 5
const roles = ['app_a', 'app_b', 'app_c']

/** Three states that need new servers, and in between others that only retune. */
function state(postgres: Postgres, index: number): object {
  return {
    ...common,
    general: { poll_interval: '500ms' },
    pools: {
      app: {
        database: 'postgres',
        servers: [{ host: '127.0.0.1', port: postgres.port, role: 'primary' }],
        users: {
          app: {
            password: 'app',
            server_user: roles[Math.floor(index / 2) % roles.length] as string,
            pool_size: poolSize,
            query_wait_timeout: `${60 + index}s`,
          },
        },
      },
    },
  }
}

function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

test('111: a hundred versions in a row under fifty clients fail no transaction and leave nothing behind', async () => {
  const { postgres, control, proxies } = await startWorld({
    postgres: { maxConnections: 300, sql: roles.map((role) => `CREATE ROLE ${role} LOGIN`) },
    document: (database) => state(database, 0),
  })
  const consoles = await Promise.all(proxies.map(openConsole))
  const load = await Load.start(proxies, { clients })
  const pids = proxies.map((proxy) => proxy.pid as number)
  const filesBefore = pids.map(openFiles)

  let version = 1
  let serversMost = 0
  for (let index = 1; index <= versions; index++) {
    version = await control.apply(fleet, state(postgres, index))
    const servers = await backends(postgres, roles)
    serversMost = Math.max(serversMost, servers.length)
  }
  await Promise.all(consoles.map((operator) => untilRuns(operator, version)))
  await load.stop()

  expect(version).toBe(versions + 1)
  expect(load.failures).toEqual([])
  expect(load.transactions).toBeGreaterThan(versions)
  // Twice the pools' size at most: the servers that serve, and as many that finish their last transaction.
  expect(serversMost).toBeLessThanOrEqual(2 * proxies.length * poolSize)
  const servers = await backends(postgres, roles)
  expect(servers.length).toBeLessThanOrEqual(proxies.length * poolSize)
  expect(new Set(servers.map((one) => one.user)).size).toBe(1)
  // The clients' sockets are gone; servers of the pool and a few keep-alive connections to control may differ.
  pids.map(openFiles).forEach((files, index) => {
    expect(files).toBeLessThanOrEqual(filesBefore[index] as number)
  })
}, 180_000)
