/** The answer to a wrong password comes later each time, and no other client waits. */
import { beforeAll, expect, test } from 'vitest'
import { startEngine } from '../../support/engine.ts'
import type { Engine } from '../../support/engine.ts'
import { startPostgres } from '../../support/postgres.ts'
import { LoginRefused, WireClient } from '../../support/wire.ts'

let port: number

beforeAll(async () => {
  ;({ port } = await startPostgres({ sql: ['CREATE ROLE app LOGIN', 'CREATE DATABASE app OWNER app'] }))
})

async function start(general: object): Promise<Engine> {
  const users = { app: { password: 'secret', server_password: '' } }
  return await startEngine({ general, pools: { app: { servers: [{ host: '127.0.0.1', port }], users } } })
}

/** "in" or the SQLSTATE, and how long it took. */
async function login(engine: Engine, password: string, from?: string): Promise<{ outcome: string; tookMs: number }> {
  const begunMs = performance.now()
  const client = await WireClient.connect(engine, from)
  try {
    await client.login({ user: 'app', password })
    return { outcome: 'in', tookMs: performance.now() - begunMs }
  } catch (error) {
    if (!(error instanceof LoginRefused)) throw error
    return { outcome: error.sqlstate, tookMs: performance.now() - begunMs }
  } finally {
    client.destroy()
  }
}

test('answers to guesses wait, a right password from the same address does not, nor does another address', async () => {
  const engine = await start({ login_backoff_after: 2, login_backoff_max: '1m' })
  await login(engine, 'guess')
  // 250, 500, 1000, 2000 ms: the last ones are under way while others log in.
  const begunMs = performance.now()
  const guesses = Promise.all(Array.from({ length: 4 }, async () => await login(engine, 'guess')))
  await engine.until(({ loginsDelayed }) => loginsDelayed === 4)

  const others = [await login(engine, 'secret'), await login(engine, 'guess', '127.0.0.2')]
  const othersMs = performance.now() - begunMs
  const took = (await guesses).map(({ tookMs }) => tookMs).toSorted((a, b) => a - b)

  expect((await guesses).map(({ outcome }) => outcome)).toEqual(['28P01', '28P01', '28P01', '28P01'])
  expect(others.map(({ outcome }) => outcome)).toEqual(['in', '28P01'])
  expect(took[0]).toBeGreaterThanOrEqual(250)
  expect(took[3]).toBeGreaterThanOrEqual(2000)
  expect(took[3]).toBeGreaterThan(othersMs)
})

test('a success starts the count anew', async () => {
  const engine = await start({ login_backoff_after: 3, login_backoff_max: '1m' })
  for (let i = 0; i < 2; i++) await login(engine, 'guess')

  await login(engine, 'secret')
  for (let i = 0; i < 2; i++) await login(engine, 'guess')

  expect((await engine.snapshot()).loginsDelayed).toBe(0)
})

test('who leaves while the answer waits is forgotten, and a proxy that stops does not wait', async () => {
  const engine = await start({ login_backoff_after: 1, login_backoff_max: '1m' })
  for (let i = 0; i < 2; i++) await login(engine, 'guess')
  const leaving = await WireClient.connect(engine)
  const waiting = await WireClient.connect(engine)
  const refused = [leaving, waiting].map(
    async (client) => await client.login({ user: 'app', password: 'guess' }).catch((error: unknown) => error),
  )
  await engine.until(({ loginsDelayed }) => loginsDelayed === 4)

  leaving.reset()
  await refused[0]
  await engine.until(({ clientsLogin }) => clientsLogin === 1)
  await engine.stop('now', 0)

  expect(await refused[1]).toMatchObject({ sqlstate: '57P03' })
})
