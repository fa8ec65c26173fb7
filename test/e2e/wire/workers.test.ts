/** Several workers on one listener: limits, evenness, console and cancel as of one process, on a real PostgreSQL. */
import { readdirSync } from 'node:fs'
import { availableParallelism, loadavg } from 'node:os'
import { setImmediate as immediately } from 'node:timers/promises'
import { Client } from 'pg'
import { afterEach, beforeAll, beforeEach, describe as group, expect, test } from 'vitest'
import { Authority } from '../../support/certificates.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from '../../support/engine.ts'
import { cancelRequest, query } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import { connectionsTo } from '../../support/tcp-connections.ts'
import { WireClient } from '../../support/wire.ts'
import { loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

const poolSize = 16

let authority: Authority

async function startWorkers(workers: number): Promise<World> {
  const certificate = await authority.issue('localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  return await startWorld({
    workers,
    maxConnections: 100,
    general: {
      client_tls_sslmode: 'prefer',
      client_tls_cert_file: certificate.certFile,
      client_tls_key_file: certificate.keyFile,
      max_client_connections: 200,
    },
    consoleUsers: { admin: { auth_type: 'trust' } },
    pools: () => ({
      divided: { pool_size: poolSize, query_wait_notify: '0ms' },
      small: { pool_size: 1 },
      sessions: { pool_mode: 'session', pool_size: poolSize },
      reserved: { pool_size: 8, reserve_pool_size: 2, reserve_pool_timeout: '100ms', query_wait_notify: '0ms' },
      limited: { pool_size: poolSize, max_db_connections: 3 },
    }),
  })
}

beforeAll(async () => {
  authority = await Authority.create()
})

function newClient({ engine }: World, database: string, more: object): Client {
  const client = new Client({ host: engine.host, port: engine.port, user: 'app', database, ...more })
  client.on('error', () => undefined)
  return client
}

/** Clients of the test that runs; what it leaves, because it failed, is not there for the next one to count. */
const opened = new Set<Client>()

afterEach(async () => {
  await Promise.all([...opened].map(async (client) => await client.end().catch(() => undefined)))
  opened.clear()
})

async function connect(world: World, database: string, more: object = {}): Promise<Client> {
  const client = newClient(world, database, more)
  opened.add(client)
  await client.connect()
  return client
}

/** All of them, or none stays. */
async function connectAll(world: World, database: string, count: number): Promise<Client[]> {
  const logins = await Promise.allSettled(Array.from({ length: count }, async () => await connect(world, database)))
  const clients = logins.flatMap((login) => (login.status === 'fulfilled' ? [login.value] : []))
  const refused = logins.find((login) => login.status === 'rejected')
  if (refused === undefined) return clients
  await end(clients)
  throw refused.reason
}

async function end(clients: readonly Client[]): Promise<void> {
  await Promise.all(clients.map(async (client) => await client.end()))
}

/** One for the whole file. */
async function consoleOf(world: World): Promise<Client> {
  const console = newClient(world, 'pgbouncer', { user: 'admin' })
  atEndOfFile(async () => await console.end().catch(() => undefined))
  await console.connect()
  return console
}

async function rowsOf(console: Client, sql: string): Promise<Record<string, string | number | null>[]> {
  return (await console.query<Record<string, string | number | null>>(sql)).rows
}

/** The workers of clients, by their ids. */
async function clientsPerWorker(console: Client, database: string, workers: number): Promise<number[]> {
  const counts = Array.from({ length: workers }, () => 0)
  for (const row of await rowsOf(console, 'SHOW CLIENTS')) {
    if (row['database'] !== database) continue
    const worker = Number(row['id']) % workers
    counts[worker] = (counts[worker] ?? 0) + 1
  }
  return counts
}

/** The most servers that there are at a time while `work` goes on. PostgreSQL itself sees those that end a while longer. */
async function mostServers({ postgres, engine }: World, work: Promise<unknown>): Promise<number> {
  let most = 0
  const state = { isOver: false }
  const ended = work.finally(() => (state.isOver = true))
  while (!state.isOver) {
    most = Math.max(most, connectionsTo(postgres.port, engine.pid))
    await immediately()
  }
  await ended
  return most
}

async function serversGone({ postgres, engine }: World): Promise<void> {
  const console = new Client({ host: engine.host, port: engine.port, user: 'admin', database: 'pgbouncer' })
  await console.connect()
  await console.query('RECONNECT')
  await console.query('WAIT_CLOSE')
  await console.end()
  await until(async () => {
    const { rows } = await postgres.sql(`SELECT 1 FROM pg_stat_activity WHERE usename = 'app'`)
    return rows.length === 0
  })
}

async function hammer(clients: readonly Client[], times: number, sql: string): Promise<void> {
  await Promise.all(
    clients.map(async (client) => {
      for (let time = 0; time < times; time++) await client.query(sql)
    }),
  )
}

async function sleeping({ postgres }: World): Promise<number> {
  return await postgres.activeQueries('SELECT pg_sleep(600)%')
}

function portOf(client: Client): number {
  const { stream } = (client as unknown as { connection: { stream: { localPort: number } } }).connection
  return stream.localPort
}

group.each([2, 4])('with %i workers', (workers) => {
  let world: World
  let console: Client

  beforeAll(async () => {
    world = await startWorkers(workers)
    console = await consoleOf(world)
  })

  // Where a client is placed follows from how many each worker has; it sees the end of the former test's in its own time.
  beforeEach(async () => {
    await world.engine.until(({ pools }) =>
      pools.every(
        ({ clientsActive, clientsIdle, clientsWaiting }) => clientsActive + clientsIdle + clientsWaiting === 0,
      ),
    )
  })

  test('64 clients never have more servers than pool_size, and all of them are served', async () => {
    await serversGone(world)
    const clients = await connectAll(world, 'divided', 64)

    const most = await mostServers(world, hammer(clients, 60, 'SELECT pg_sleep(0.002)'))
    const servers = (await world.engine.pool('divided')).serversIdle

    expect(most).toBeGreaterThan(poolSize / 2)
    expect(most).toBeLessThanOrEqual(poolSize)
    expect(servers).toBeLessThanOrEqual(poolSize)
    await end(clients)
  })

  test('clients are spread evenly, and again after half of them have left', async () => {
    const clients = await connectAll(world, 'divided', 64)
    const spread = await clientsPerWorker(console, 'divided', workers)
    await end(clients.splice(0, 32))
    await world.engine.poolUntil('divided', ({ clientsIdle }) => clientsIdle === 32)
    clients.push(...(await connectAll(world, 'divided', 32)))
    const again = await clientsPerWorker(console, 'divided', workers)

    expect(spread).toEqual(Array.from({ length: workers }, () => 64 / workers))
    expect(again).toEqual(spread)
    await end(clients)
  })

  test('a pool of one server is served by one worker, one client at a time', async () => {
    await serversGone(world)
    const clients = await connectAll(world, 'small', 16)

    const most = await mostServers(world, hammer(clients, 20, 'SELECT 1'))

    expect(most).toBe(1)
    expect((await clientsPerWorker(console, 'small', workers)).filter((count) => count > 0)).toEqual([16])
    await end(clients)
  })

  test('max_db_connections holds for the process', async () => {
    await serversGone(world)
    const clients = await connectAll(world, 'limited', 16)

    const most = await mostServers(world, hammer(clients, 30, 'SELECT pg_sleep(0.002)'))

    expect(most).toBe(3)
    await end(clients)
  })

  test('the reserve is used once, whichever worker has clients that wait', async () => {
    await serversGone(world)
    const clients = await connectAll(world, 'reserved', 24)

    const most = await mostServers(world, hammer(clients, 2, 'SELECT pg_sleep(0.3)'))

    expect(most).toBe(10)
    await end(clients)
  })

  test('no client waits while another worker has idle servers', async () => {
    await serversGone(world)
    const clients = await connectAll(world, 'divided', poolSize * workers)
    const workerOf = new Map(
      (await rowsOf(console, 'SHOW CLIENTS')).map((row) => [Number(row['port']), Number(row['id']) % workers]),
    )
    const ofFirst = clients.filter((client) => workerOf.get(portOf(client)) === 0)
    // All servers are of others: as many transactions as there may be servers, open at the same time.
    const ofOthers = clients.filter((client) => workerOf.get(portOf(client)) !== 0).slice(0, poolSize)
    await Promise.all(ofOthers.map(async (client) => await client.query('BEGIN')))
    await Promise.all(ofOthers.map(async (client) => await client.query('COMMIT')))
    const opened = await world.engine.poolUntil('divided', ({ serversIdle }) => serversIdle === poolSize)

    const most = mostServers(
      world,
      until(async () => (await sleeping(world)) === poolSize),
    )
    const asked = ofFirst.map(async (client) => await client.query('SELECT pg_sleep(600)').catch(() => undefined))

    expect(opened.serversIdle).toBe(poolSize)
    expect(ofFirst).toHaveLength(poolSize)
    expect(await most).toBeLessThanOrEqual(poolSize)
    await console.query('KILL divided')
    await console.query('RESUME divided')
    await Promise.all(asked)
  })

  test('74: a cancel request finds its client, whichever worker accepts it', async () => {
    const clients = await Promise.all(
      Array.from({ length: workers * 2 }, async () => await loginTo(world, 'divided', {})),
    )
    for (const client of clients) client.send(query('SELECT pg_sleep(600)'))
    await until(async () => (await sleeping(world)) === clients.length)

    for (const client of clients) {
      const { pid, secret } = client.key as NonNullable<WireClient['key']>
      const request = await WireClient.connect(world.engine)
      request.send(cancelRequest(pid, secret))
      await request.readToEnd()
      request.destroy()
    }
    const answers = await Promise.all(clients.map(async (client) => (await client.readUntil('Z')).map(describe)))

    for (const answer of answers) {
      expect(answer.slice(-2)).toEqual(['E ERROR 57014 canceling statement due to user request', 'Z I'])
    }
    for (const client of clients) client.destroy()
  })

  test('PAUSE waits for the servers of all workers, and RESUME lets all clients go on without an error', async () => {
    const clients = await connectAll(world, 'divided', 32)
    const going = hammer(clients, 100, 'SELECT pg_sleep(0.001)')

    await console.query('PAUSE divided')
    const [database] = (await rowsOf(console, 'SHOW DATABASES')).filter((row) => row['name'] === 'divided')
    const paused = await world.engine.pool('divided')
    const newcomer = (async () => {
      const client = await connect(world, 'divided')
      await client.query('SELECT 1')
      await client.end()
    })()
    await world.engine.poolUntil('divided', ({ clientsWaiting }) => clientsWaiting >= 32)
    await console.query('RESUME divided')
    await going
    await newcomer

    expect(database).toMatchObject({ paused: 1, current_connections: 0 })
    expect(paused.serversActive + paused.serversIdle + paused.serversLogin).toBe(0)
    await end(clients)
  })

  test('the console shows one line per pool, and every connection of every worker', async () => {
    const clients = await connectAll(world, 'divided', 32)
    await hammer(clients, 5, 'SELECT pg_sleep(0.001)')
    // One that was opened for a client which has been served meanwhile may still log in.
    await world.engine.poolUntil('divided', ({ serversLogin, serversActive }) => serversLogin + serversActive === 0)

    const pools = (await rowsOf(console, 'SHOW POOLS')).filter((row) => row['database'] === 'divided')
    const servers = (await rowsOf(console, 'SHOW SERVERS')).filter((row) => row['database'] === 'divided')
    const ids = (await rowsOf(console, 'SHOW CLIENTS')).map((row) => row['id'])
    const lists = new Map((await rowsOf(console, 'SHOW LISTS')).map((row) => [row['list'], row['items']]))
    const [stats] = (await rowsOf(console, 'SHOW STATS')).filter((row) => row['database'] === 'divided')

    expect(pools).toHaveLength(1)
    expect(pools[0]).toMatchObject({ cl_active: 32, sv_idle: servers.length })
    expect(new Set(ids).size).toBe(ids.length)
    expect(lists.get('used_clients')).toBe(ids.length)
    expect(Number(stats?.['total_query_count'])).toBeGreaterThanOrEqual(160)
    await end(clients)
  })

  test('KILL_CLIENT ends a client of any worker', async () => {
    const clients = await connectAll(world, 'divided', workers * 2)
    const ids = (await rowsOf(console, 'SHOW CLIENTS')).filter((row) => row['database'] === 'divided')

    for (const row of ids) await console.query(`KILL_CLIENT ${row['id']}`)
    const left = await world.engine.poolUntil('divided', ({ clientsIdle }) => clientsIdle === 0)

    expect(ids).toHaveLength(workers * 2)
    expect(left.clientsIdle).toBe(0)
    await Promise.all(clients.map(async (client) => await client.end().catch(() => undefined)))
  })

  test('a version is applied by all workers before that is answered: A, B, A', async () => {
    const clients = await connectAll(world, 'divided', 32)
    const { document, engine } = world
    const pools = document['pools'] as Record<string, object>
    const other = { ...document, pools: { ...pools, divided: { ...pools['divided'], server_lifetime: '2h' } } }
    const hashes: (string | null)[] = []
    const going = hammer(clients, 50, 'SELECT pg_sleep(0.001)')

    for (const version of [other, document, other, document]) {
      expect((await engine.apply(version)).applied).toBe(true)
      const shown = await rowsOf(console, 'SHOW POOL_VERSIONS')
      const [row] = shown.filter(({ database }) => database === 'divided')
      expect(row?.['running_hash']).toBe((await engine.pool('divided')).hash)
      hashes.push((await engine.pool('divided')).hash)
    }
    await going

    expect(hashes[0]).not.toBe(hashes[1])
    expect([hashes[2], hashes[3]]).toEqual([hashes[0], hashes[1]])
    await end(clients)
  })

  test('clients over TLS are handed over with what they have sent', async () => {
    const clients = await Promise.all(
      Array.from(
        { length: workers * 4 },
        async () => await connect(world, 'divided', { ssl: { rejectUnauthorized: false } }),
      ),
    )
    await hammer(clients, 5, 'SELECT 1')

    const shown = (await rowsOf(console, 'SHOW CLIENTS')).filter((row) => row['database'] === 'divided')

    expect(shown.filter((row) => String(row['tls']).startsWith('TLSv1.3'))).toHaveLength(workers * 4)
    expect(await clientsPerWorker(console, 'divided', workers)).toEqual(Array.from({ length: workers }, () => 4))
    await end(clients)
  })

  test('prepared statements follow their client in every worker', async () => {
    const clients = await connectAll(world, 'divided', workers * 8)

    const sums = await Promise.all(
      clients.map(async (client, number) => {
        let sum = 0
        for (let time = 0; time < 20; time++) {
          const statement = { name: `s${time % 3}`, text: `SELECT $1::int + ${time % 3} AS sum`, values: [number] }
          sum += (await client.query<{ sum: number }>(statement)).rows[0]?.sum ?? Number.NaN
        }
        return sum
      }),
    )

    expect(sums).toEqual(clients.map((_, number) => number * 20 + 19))
    await end(clients)
  })

  test('max_client_connections holds for the process', async () => {
    // The clients of other tests have closed, which each worker sees in its own time.
    await until(async () => (await rowsOf(console, 'SHOW CLIENTS')).length === 1)
    const clients = await connectAll(world, 'divided', 199)

    await expect(connect(world, 'divided')).rejects.toThrow('no more connections allowed (max_client_conn)')

    await end(clients)
    await world.engine.poolUntil('divided', ({ clientsIdle }) => clientsIdle === 0)
    await end(await connectAll(world, 'divided', 10))
  })

  test('a thousand logins leave no file descriptor behind', async () => {
    const openCount = (): number => readdirSync(`/proc/${world.engine.pid}/fd`).length
    const login = async (count: number): Promise<void> => {
      for (let done = 0; done < count; done += 50) await end(await connectAll(world, 'divided', 50))
      await world.engine.poolUntil('divided', ({ clientsIdle }) => clientsIdle === 0)
    }
    await login(100)
    await until(() => true)
    const before = openCount()

    await login(1000)
    await until(() => openCount() <= before + workers)

    expect(openCount()).toBeLessThanOrEqual(before + workers)
  })

  test('a worker that fails is back within a second, paused as the others are, which have gone on serving', async () => {
    const clients = await connectAll(world, 'divided', 16)
    await console.query('PAUSE transaction5')
    let failed = 0
    const going = clients.map(async (client) => {
      try {
        for (let time = 0; time < 30; time++) await client.query('SELECT pg_sleep(0.05)')
      } catch {
        failed++
      }
    })
    const consoleId = (await rowsOf(console, 'SHOW CLIENTS')).find((row) => row['database'] === 'pgbouncer')?.['id']
    const worker = (Number(consoleId) + 1) % workers

    const lineCount = world.engine.log.length
    world.engine.failWorker(worker)
    const diedAtMs = performance.now()
    await until(() => world.engine.log.slice(lineCount).some(({ message }) => message === 'the engine restarted'))
    const tookMs = performance.now() - diedAtMs
    await Promise.all(going)
    const again = await connectAll(world, 'divided', 16)
    const spread = await clientsPerWorker(console, 'divided', workers)
    await console.query('RESUME transaction5')

    // On a machine of its own; where more wants to run than there are cores, everything takes as much longer.
    expect(tookMs).toBeLessThan(1000 * Math.max(1, (loadavg()[0] ?? 0) / availableParallelism()))
    expect(failed).toBe(16 / workers)
    expect(Math.max(...spread) - Math.min(...spread)).toBeLessThanOrEqual(1)
    expect(world.engine.log.find(({ level }) => level === 'error')?.fields).toMatchObject({
      reason: 'a fault set off by a test',
    })
    await end(again)
    await Promise.all(clients.map(async (client) => await client.end().catch(() => undefined)))
  })
})
