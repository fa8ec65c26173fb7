import { once } from 'node:events'
import { beforeAll, expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { copyData, copyDone, query, terminate } from '../../support/frontend-messages.ts'
import { describe, transcript } from '../../support/oracle.ts'
import type { WireClient } from '../../support/wire.ts'
import { loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

const mebibyte = 1024 * 1024

/** What the engine's process may grow by, whatever passes through it. */
const growthMax = 48 * mebibyte

beforeAll(async () => {
  world = await startWorld({ sql: ['CREATE UNLOGGED TABLE wide (t text)', 'ALTER TABLE wide OWNER TO app'] })
  // What is allocated once, at the first use, is not growth.
  const client = await loginTo(world, 'transaction5')
  await transcript(client, [{ send: [query("SELECT repeat('x', 5000000)")], until: 'Z' }])
  client.destroy()
})

/** Counts what arrives instead of keeping it, until `bytes` have come or the connection ends. */
async function count(client: WireClient, bytes: number): Promise<number> {
  let received = 0
  const enough = new Promise<void>((resolve) => {
    client.socket.removeAllListeners('data')
    client.socket.on('data', (chunk: Buffer) => {
      received += chunk.length
      if (received >= bytes) resolve()
    })
    client.socket.on('close', resolve)
  })
  await enough
  return received
}

/** The most the engine's process had, above what it had at the beginning, while `work` went on. */
async function growth(work: Promise<unknown>): Promise<number> {
  const before = world.engine.rssBytes()
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, world.engine.rssBytes())
  }, 5)
  await work
  clearInterval(timer)
  return Math.max(most, world.engine.rssBytes()) - before
}

test('35: a row of 256 MB passes in bounded memory', async () => {
  const client = await loginTo(world, 'transaction5')
  const length = 256 * mebibyte

  client.send(query(`SELECT repeat('x', ${length})`))
  const grown = await growth(count(client, length))

  expect(grown).toBeLessThan(growthMax)
  client.destroy()
})

test('35: a query of 128 MB passes in bounded memory', async () => {
  const client = await loginTo(world, 'transaction5')
  const big = query(`SELECT ${' '.repeat(128 * mebibyte)} 1 AS a`)

  client.send(big)
  const answers = client.readUntil('Z')
  const grown = await growth(answers)

  expect(grown).toBeLessThan(growthMax)
  expect((await answers).map(describe)).toEqual(['T a', 'D 00010000000131', 'C SELECT 1', 'Z I'])
  client.destroy()
})

test('35: COPY IN of 128 MB passes in bounded memory', async () => {
  const client = await loginTo(world, 'transaction5')
  const piece = copyData(`${'x'.repeat(mebibyte - 1)}\n`)
  client.send(query('COPY wide FROM STDIN'))
  await client.readUntil('G')

  const grown = await growth(
    (async () => {
      for (let i = 0; i < 128; i++) {
        if (!client.socket.write(piece)) await once(client.socket, 'drain')
      }
      client.send(copyDone)
      await client.readUntil('Z')
    })(),
  )

  expect(grown).toBeLessThan(growthMax)
  client.destroy()
})

test('60: clients that do not read a result cost a buffer each, and others are served meanwhile', async () => {
  const slow = await Promise.all(Array.from({ length: 4 }, () => loginTo(world, 'transaction5')))
  const other = await loginTo(world, 'transaction5')
  const rows = 100_000
  const wanted = rows * 2000
  for (const client of slow) client.socket.pause()

  const grown = await growth(
    (async () => {
      for (const client of slow) client.send(query(`SELECT lpad('', 2000) FROM generate_series(1, ${rows})`))
      await until(async () => {
        const { rowCount } = await world.postgres.sql(
          "SELECT FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND query LIKE 'SELECT lpad%'",
        )
        return rowCount === 4
      })
      for (let i = 0; i < 200; i++) await transcript(other, [{ send: [query('SELECT 1 AS a')], until: 'Z' }])
    })(),
  )
  const counting = count(slow[0] as WireClient, wanted)
  for (const client of slow.slice(1)) client.destroy()
  slow[0]?.socket.resume()

  expect(grown).toBeLessThan(growthMax)
  expect(await counting).toBeGreaterThanOrEqual(wanted)
  for (const client of [...slow, other]) client.destroy()
})

test('64: COPY OUT to a client that does not read is held back, and ends when the client leaves', async () => {
  const client = await loginTo(world, 'transaction1')
  client.socket.pause()

  const grown = await growth(
    (async () => {
      client.send(query("COPY (SELECT lpad('', 64, 'x') FROM generate_series(1, 3000000)) TO STDOUT"))
      await until(async () => {
        const { rowCount } = await world.postgres.sql(
          "SELECT FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND query LIKE 'COPY%'",
        )
        return rowCount === 1
      })
    })(),
  )
  client.reset()

  expect(grown).toBeLessThan(growthMax)
  await world.engine.poolUntil(
    'transaction1',
    ({ serversActive, clientsActive }) => serversActive + clientsActive === 0,
  )
  await until(async () => {
    const { rowCount } = await world.postgres.sql(
      "SELECT FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'",
    )
    return rowCount === 0
  })
})

test('a client that sends requests without reading the answers is held back', async () => {
  const client = await loginTo(world, 'transaction1')
  client.socket.pause()
  const request = Buffer.concat(Array.from({ length: 1000 }, () => query("SELECT repeat('x', 1000)")))
  let written = 0

  const grown = await growth(
    (async () => {
      for (let i = 0; i < 200; i++) {
        written += request.length
        if (!client.socket.write(request)) break
      }
      await until(async () => {
        const { rowCount } = await world.postgres.sql("SELECT FROM pg_stat_activity WHERE wait_event = 'ClientWrite'")
        return rowCount === 1
      })
    })(),
  )

  expect(written).toBeGreaterThan(0)
  expect(grown).toBeLessThan(growthMax)
  client.send(terminate)
  client.destroy()
})
