/** What an operator does holds for the process, whichever of its threads serve, and whichever of them have died since. */
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { Client } from 'pg'
import { beforeAll, beforeEach, describe as group, expect, test } from 'vitest'
import { pidOf } from '../../../proxy/engine/cancel/cancel.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from '../../support/engine.ts'
import { freePort } from '../../support/free-port.ts'
import { cancelRequest, cstring, int32, passwordMessage, query, startup } from '../../support/frontend-messages.ts'
import { LoginRefused, WireClient } from '../../support/wire.ts'
import type { Message } from '../../support/wire.ts'
import { loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

type Row = Record<string, string | number | null>

async function connect({ engine }: World, database: string, user = 'app'): Promise<Client> {
  const client = new Client({ host: engine.host, port: engine.port, user, database })
  client.on('error', () => undefined)
  atEndOfFile(async () => await client.end().catch(() => undefined))
  await client.connect()
  return client
}

async function rowsOf(console: Client, sql: string): Promise<Row[]> {
  return (await console.query<Row>(sql)).rows
}

async function shown(console: Client, sql: string, key: string): Promise<Row | undefined> {
  return (await rowsOf(console, sql)).find((row) => Object.values(row)[0] === key)
}

/** A console of one worker: the worker that accepts a console keeps it, so one of many is taken. */
async function consoleOf(world: World, worker: number, workers: number): Promise<Client> {
  for (;;) {
    const consoles = await Promise.all(
      Array.from({ length: 4 * workers }, async () => await connect(world, 'pgbouncer', 'admin')),
    )
    for (const [number, console] of consoles.entries()) {
      await console.query(`SET application_name = 'console ${number}'`)
    }
    const rows = await rowsOf(consoles[0] as Client, 'SHOW CLIENTS')
    const found = rows.find(
      ({ id, application_name: name }) => Number(id) % workers === worker && String(name).startsWith('console '),
    )
    const console = consoles[Number(String(found?.['application_name']).slice('console '.length))]
    if (console !== undefined) await console.query("SET application_name = 'kept'")
    for (const other of consoles) if (other !== console) await other.end()
    if (console !== undefined) return console
  }
}

async function die({ engine }: World, worker: number): Promise<void> {
  const lineCount = engine.log.length
  engine.failWorker(worker)
  await until(() => engine.log.slice(lineCount).some(({ message }) => message === 'the engine restarted'))
}

async function start(workers: number): Promise<World> {
  return await startWorld({
    workers,
    general: { login_backoff_after: 5, login_backoff_max: '250ms' },
    consoleUsers: { admin: { auth_type: 'trust' } },
    pools: async () => ({
      guarded: {
        pool_size: 16,
        auth_type: 'scram-sha-256',
        users: { app: { password: 'secret', server_password: '' } },
      },
      divided: { pool_size: 16, query_wait_notify: '0ms' },
      refused: { pool_size: 1, servers: [{ host: '127.0.0.1', port: await freePort() }] },
    }),
  })
}

group.each([1, 2])('with %i workers, a thread that died', (workers) => {
  let world: World

  beforeAll(async () => {
    world = await start(workers)
  })

  /** Every thread dies once; gives a console of each that took its place. */
  async function dieInTurn(): Promise<Client[]> {
    const consoles: Client[] = []
    for (let worker = 0; worker < workers; worker++) {
      await die(world, worker)
      consoles.push(await consoleOf(world, worker, workers))
    }
    return consoles
  }

  test('comes back with PAUSE, DISABLE and SET as they were, and without what was taken back', async () => {
    const before = await consoleOf(world, 0, workers)
    await before.query('PAUSE transaction1; PAUSE session1; DISABLE transaction5; DISABLE session5')
    await before.query("SET pool_size = 7; SET max_client_conn = 50; SET idle_timeout = '1m'")
    await before.query('RESUME session1; ENABLE session5')

    for (const console of await dieInTurn()) {
      const databases = new Map((await rowsOf(console, 'SHOW DATABASES')).map((row) => [row['name'], row]))
      const [version] = (await rowsOf(console, 'SHOW POOL_VERSIONS')).filter((row) => row['database'] === 'divided')

      expect(databases.get('transaction1')).toMatchObject({ paused: 1, disabled: 0, pool_size: 7 })
      expect(databases.get('session1')).toMatchObject({ paused: 0, disabled: 0 })
      expect(databases.get('transaction5')).toMatchObject({ paused: 0, disabled: 1 })
      expect(databases.get('session5')).toMatchObject({ paused: 0, disabled: 0 })
      expect(await shown(console, 'SHOW CONFIG', 'max_client_conn')).toMatchObject({ value: '50' })
      expect(version).toMatchObject({ state: 'overridden', error: 'SET pool_size = 7, idle_timeout = 1m' })
    }
    const last = await consoleOf(world, 0, workers)
    await last.query('RESUME transaction1; ENABLE transaction5; RELOAD')
    expect(await shown(last, 'SHOW CONFIG', 'max_client_conn')).toMatchObject({ value: '10000' })
  })

  test('forgets SET with the next version, and keeps the pause', async () => {
    const before = await consoleOf(world, 0, workers)
    await before.query('SET pool_size = 7; PAUSE transaction1')
    await world.engine.apply(world.document)

    for (const console of await dieInTurn()) {
      const database = await shown(console, 'SHOW DATABASES', 'transaction1')
      expect(database).toMatchObject({ paused: 1, pool_size: 1 })
    }
    await (await consoleOf(world, 0, workers)).query('RESUME transaction1')
  })

  test('is suspended when it comes back, and serves after RESUME', async () => {
    await (await consoleOf(world, 0, workers)).query('SUSPEND')

    const consoles = await dieInTurn()
    const states = await Promise.all(consoles.map(async (console) => await shown(console, 'SHOW STATE', 'suspended')))
    const answered: number[] = []
    const asked = Array.from({ length: workers * 2 }, async (_, number) => {
      const client = await loginTo(world, 'divided', {})
      client.send(query('SELECT 1'))
      await client.readUntil('Z')
      answered.push(number)
      client.destroy()
    })
    await world.engine.until(({ clients }) => clients >= workers * 2 + 1)
    await consoles.at(-1)?.query('SHOW POOLS')
    const during = answered.length
    await consoles.at(-1)?.query('RESUME')
    await Promise.all(asked)

    expect(states.map((row) => row?.['value'])).toEqual(states.map(() => 'yes'))
    expect(during).toBe(0)
    expect(answered).toHaveLength(workers * 2)
  })
})

/** Of a row, what is not another moment's. */
function lasting(row: Row): Row {
  const passing = ['request_time', 'wait', 'wait_us', 'maxwait', 'maxwait_us', 'ban_remaining_seconds', 'idle_ms']
  return Object.fromEntries(Object.entries(row).filter(([column]) => !passing.includes(column)))
}

/** What cannot be the same from one moment to the next. */
const ofTheMoment = ['SHOW MEM', 'SHOW STATS', 'SHOW STATS_AVERAGES', 'SHOW STATS_TOTALS', 'SHOW TOTALS']

async function showCommands(console: Client): Promise<string[]> {
  const told = once(console, 'notice') as Promise<[{ detail: string }]>
  await console.query('SHOW HELP')
  const [{ detail }] = await told
  return [...detail.matchAll(/^\t(SHOW [A-Z_]+) /gm)].map(([, command]) => command as string)
}

group.each([1, 4])('with %i workers, who guesses passwords', (workers) => {
  let world: World

  beforeAll(async () => {
    world = await start(workers)
  })

  async function guess(count: number, password = 'guess'): Promise<(string | undefined)[]> {
    const tries = Array.from({ length: count }, async () => {
      const client = await WireClient.connect(world.engine)
      try {
        await client.login({ user: 'app', database: 'guarded', password })
        return undefined
      } catch (error) {
        if (!(error instanceof LoginRefused)) throw error
        return error.sqlstate
      } finally {
        client.destroy()
      }
    })
    return await Promise.all(tries)
  }

  async function delayed(): Promise<number> {
    return (await world.engine.snapshot()).loginsDelayed
  }

  test('has four answers at once and no more, over any number of connections, until a password is right', async () => {
    const before = await delayed()

    const answers = await guess(32)
    const after = (await delayed()) - before
    await guess(1, 'secret')
    await guess(4)
    const forgiven = (await delayed()) - before - after

    expect(answers).toEqual(Array(32).fill('28P01'))
    expect(after).toBe(32 - 4)
    expect(forgiven).toBe(0)
    await guess(1, 'secret')
  })

  test('is remembered by a thread that takes the place of another', async () => {
    await guess(4)

    for (let worker = 0; worker < workers; worker++) await die(world, worker)
    await guess(1)

    expect(await delayed()).toBe(1)
  })
})

test('18: every worker challenges an unknown user with one salt, like a known one, after a restart too', async () => {
  const world = await start(4)
  /** What SCRAM asks a user with; see RFC 5802, 7. */
  const asked = async (user: string): Promise<string> => {
    const client = await WireClient.connect(world.engine)
    client.send(startup({ user, database: 'guarded' }))
    await client.readUntil('R')
    const first = Buffer.from('n,,n=,r=nonce')
    client.send(passwordMessage(cstring('SCRAM-SHA-256'), int32(first.length), first))
    const { body } = (await client.readUntil('R')).at(-1) as Message
    client.destroy()
    const [, saltAndIterations] = /,(s=.*)$/.exec(body.toString('latin1')) ?? []
    return saltAndIterations ?? ''
  }
  const all = async (user: string): Promise<Set<string>> =>
    new Set(await Promise.all(Array.from({ length: 24 }, async () => await asked(user))))
  const seen = async (): Promise<string[][]> => [[...(await all('app'))], [...(await all('stranger'))]]

  const before = await seen()
  for (const worker of [0, 1, 2, 3]) await die(world, worker)
  const after = await seen()

  expect(before.map((salts) => salts.length)).toEqual([1, 1])
  expect(before[0]).not.toEqual(before[1])
  expect(after).toEqual(before)
})

group('with 2 workers', () => {
  let world: World
  let consoles: readonly [Client, Client]

  beforeAll(async () => {
    world = await start(2)
    consoles = [await consoleOf(world, 0, 2), await consoleOf(world, 1, 2)]
  })

  beforeEach(async () => {
    await consoles[0].query('RELOAD')
  })

  /** A client of one worker that does not read what it has asked for. */
  async function slowClientOf(worker: number): Promise<{ readonly port: number; readonly destroy: () => void }> {
    // Of two clients each worker gets one.
    const clients = [await loginTo(world, 'divided', {}), await loginTo(world, 'divided', {})]
    const rows = await rowsOf(consoles[0], 'SHOW CLIENTS')
    const workerOf = ({ socket }: WireClient): number =>
      Number(rows.find((row) => row['port'] === socket.localPort)?.['id']) % 2
    const client = clients.find((one) => workerOf(one) === worker) as WireClient
    const port = client.socket.localPort as number
    for (const other of clients) if (other !== client) other.destroy()
    client.socket.pause()
    client.send(query("SELECT repeat('x', 30000000)"))
    await until(async () => {
      const sockets = await rowsOf(consoles[0], 'SHOW SOCKETS')
      return sockets.some((one) => one['port'] === port && Number(one['send_remain']) > 0)
    })
    return { port, destroy: () => client.destroy() }
  }

  test('every SHOW command answers the same at each of them', async () => {
    const { postgres, engine } = world
    const clients = await Promise.all(Array.from({ length: 8 }, async () => await connect(world, 'divided')))
    await Promise.all(clients.map(async (client) => await client.query('LISTEN something')))
    const lost = engine.lost.length
    await postgres.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' LIMIT 4`)
    await until(() => engine.lost.length >= lost + 4)
    // Placed on one worker, which alone has seen that nothing listens there.
    const refused = await WireClient.connect(engine)
    refused.send(startup({ user: 'app', database: 'refused' }))
    await until(async () => (await shown(consoles[0], 'SHOW BANS', 'refused')) !== undefined)
    await consoles[0].query('PAUSE refused')
    // Never answered, so that the request stays where it is, with the worker that has accepted it.
    const peer = createServer().listen(0, '127.0.0.1')
    await once(peer, 'listening')
    const { port } = peer.address() as AddressInfo
    await engine.post({ type: 'peers', update: { number: 1, peers: [{ number: 2, address: '127.0.0.1', port }] } })
    await until(async () => (await rowsOf(consoles[1], 'SHOW PEERS')).length === 1)
    const canceling = await WireClient.connect(engine)
    canceling.send(cancelRequest(pidOf(2, 0, 1), Buffer.alloc(4)))
    await until(async () =>
      (await rowsOf(consoles[0], 'SHOW PEER_POOLS')).some((row) => row['cl_active_cancel_req'] === 1),
    )

    const commands = (await showCommands(consoles[0])).filter((command) => !ofTheMoment.includes(command))
    for (const command of commands) {
      const answers = await Promise.all(consoles.map(async (console) => (await rowsOf(console, command)).map(lasting)))
      const [one, other] = answers.map((rows) => rows.map((row) => JSON.stringify(row)).toSorted())
      expect([command, other]).toEqual([command, one])
    }

    expect(commands).toEqual(expect.arrayContaining(['SHOW BANS', 'SHOW PEER_POOLS', 'SHOW LISTS', 'SHOW CONFIG']))
    expect(await rowsOf(consoles[1], 'SHOW BANS')).toHaveLength(1)
    expect(await rowsOf(consoles[1], 'SHOW PEER_POOLS')).toMatchObject([{ peer_id: 2, cl_active_cancel_req: 1 }])
    canceling.destroy()
    refused.destroy()
    peer.close()
    await consoles[0].query('RESUME refused')
    await Promise.all(clients.map(async (client) => await client.end().catch(() => undefined)))
  })

  test('of opposite orders at both at once, the same one is the last at each', async () => {
    /** What each of them runs: not what both say together. */
    const held = async (): Promise<string[]> =>
      await Promise.all(
        consoles.map(async (console) => {
          const database = await shown(console, 'SHOW DATABASES', 'divided')
          const key = await shown(console, 'SHOW CONFIG', 'max_client_conn')
          return `${database?.['paused']} ${database?.['disabled']} ${database?.['pool_size']} ${key?.['value']}`
        }),
      )
    const opposites = [
      ['KILL divided', 'RESUME divided'],
      ['DISABLE divided', 'ENABLE divided'],
      ['SET pool_size = 7', 'SET pool_size = 8'],
      ['SET max_client_conn = 50', 'SET max_client_conn = 60'],
    ] as const
    const differing: string[] = []

    for (let round = 0; round < 20; round++) {
      for (const orders of opposites) {
        // Whichever comes too late to change anything may say so.
        await Promise.allSettled(consoles.map(async (console, at) => await console.query(orders[at] ?? '')))
        const [one, other] = await held()
        if (one !== other) differing.push(`${orders.join(' | ')}: ${one} and ${other}`)
      }
    }

    expect(differing).toEqual([])
    await consoles[0].query('RESUME divided').catch(() => undefined)
    await consoles[0].query('ENABLE divided; RELOAD')
  })

  test('SUSPEND holds the clients of both, and RESUME at the other lets all of them go on', async () => {
    const clients = await Promise.all(Array.from({ length: 8 }, async () => await connect(world, 'divided')))
    for (const client of clients) await client.query('SELECT 1')
    let answered = 0

    await consoles[0].query('SUSPEND')
    const asked = clients.map(async (client) => {
      await client.query('SELECT 2')
      answered++
    })
    await world.postgres.sql('SELECT pg_sleep(0.1)')
    const states = await Promise.all(consoles.map(async (console) => await shown(console, 'SHOW STATE', 'suspended')))
    const during = answered
    await consoles[1].query('RESUME')
    await Promise.all(asked)

    expect(states.map((row) => row?.['value'])).toEqual(['yes', 'yes'])
    expect(during).toBe(0)
    expect(answered).toBe(8)
    await Promise.all(clients.map(async (client) => await client.end()))
  })

  test.each([0, 1])(
    'SUSPEND at 0 waits for a client of %i that does not read, and closes it when its time is up',
    async (worker) => {
      await consoles[0].query("SET suspend_timeout = '300ms'")
      const slow = await slowClientOf(worker)
      const beganMs = performance.now()

      await consoles[0].query('SUSPEND')
      const tookMs = performance.now() - beganMs
      const left = (await rowsOf(consoles[0], 'SHOW CLIENTS')).filter((row) => row['port'] === slow.port)
      await consoles[0].query('RESUME')

      expect(tookMs).toBeGreaterThanOrEqual(290)
      expect(left).toEqual([])
      slow.destroy()
    },
  )

  test('clients of both that do not read have the same time, not one after the other', async () => {
    await consoles[0].query("SET suspend_timeout = '1500ms'")
    const slow = [await slowClientOf(0), await slowClientOf(1)]
    const beganMs = performance.now()

    await consoles[1].query('SUSPEND')
    const tookMs = performance.now() - beganMs
    await consoles[0].query('RESUME')

    expect(tookMs).toBeGreaterThanOrEqual(1490)
    expect(tookMs).toBeLessThan(2900)
    for (const one of slow) one.destroy()
  })

  test('RESUME at the other ends a SUSPEND that still waits, in the words of one worker', async () => {
    await consoles[0].query("SET suspend_timeout = '1m'")
    const slow = await slowClientOf(1)
    const suspended = consoles[0].query('SUSPEND').catch((error: unknown) => error)
    await until(async () => (await shown(consoles[1], 'SHOW STATE', 'suspended'))?.['value'] === 'yes')

    await consoles[1].query('RESUME')

    expect(await suspended).toMatchObject({
      code: '55000',
      message: 'pooler is resumed before everything was flushed',
    })
    slow.destroy()
  })
})
