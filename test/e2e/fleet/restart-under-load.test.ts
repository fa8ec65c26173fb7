/** Alone on the machine: how a restart goes while as many clients work as one machine can have. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import type { Client } from 'pg'
import { describe, expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { connected, gone, startRestartable } from './restartable.ts'
import type { Place } from './restartable.ts'
import { fleet } from './world.ts'

/** Clients as applications write them: one that is disconnected before a transaction has begun connects again. */
class Applications {
  readonly failures: string[] = []
  transactions = 0
  moves = 0
  #stopping = false
  readonly #clients: Promise<void>[]

  /** As many at each place. */
  constructor(places: readonly Place[], count: number) {
    this.#clients = places.flatMap((place) => Array.from({ length: count }, async () => await this.#run(place)))
  }

  async #run(proxy: Place): Promise<void> {
    let client: Client | undefined
    while (!this.#stopping) {
      try {
        client ??= await connected(proxy)
        const begun = await began(client)
        if (!begun) {
          this.moves++
          client = undefined
          continue
        }
        await client.query('SELECT pg_sleep(0.001)')
        await client.query('COMMIT')
        this.transactions++
        await after(2)
      } catch (error) {
        this.failures.push(error instanceof Error ? `${error.message} ${error.stack}` : String(error))
        return
      }
    }
    await client?.end()
  }

  async stop(): Promise<void> {
    this.#stopping = true
    await Promise.all(this.#clients)
  }
}

/** False when it was sent away instead, or before. */
async function began(client: Client): Promise<boolean> {
  if (gone.has(client)) return false
  try {
    await client.query('BEGIN')
    return true
  } catch (error) {
    if ((error as { code?: string }).code === '57P01' || gone.has(client)) return false
    throw error
  }
}

describe.each([1, 2])('with %i workers', (workers) => {
  test('a process takes over under load: no transaction fails and no connection is refused', async () => {
    const dir = await tempFolder()
    const { first, next, control } = await startRestartable({ workers, drain_rate: 40, unix_socket_dir: dir })
    const places = [first, { host: dir, port: first.port }]
    const load = new Applications(places, 8)
    const logins = places.map(() => 0)
    const newcomer = { mayCome: true }
    const newcomers = places.map(async (place, index) => {
      while (newcomer.mayCome) {
        const client = await connected(place)
        logins[index] = (logins[index] ?? 0) + 1
        if (await began(client)) await client.end()
      }
    })
    await until(() => load.transactions > 100)

    const second = await next()
    const code = await first.ended()
    const [before, loginsBefore] = [load.transactions, [...logins]]
    await until(() => load.transactions > before + 100)
    await until(() => logins.every((count, index) => count > (loginsBefore[index] ?? 0)))
    newcomer.mayCome = false
    await Promise.all(newcomers)
    await load.stop()
    const answer = await control.call('GET', `/v1/fleets/${fleet}/proxies/proxy-1`)

    expect(load.failures).toEqual([])
    expect(code).toBe(0)
    expect(load.moves).toBeGreaterThanOrEqual(16)
    expect(Math.min(...loginsBefore)).toBeGreaterThan(0)
    expect(answer.body).toMatchObject({ state: 'in_sync' })
    expect(existsSync(join(dir, `.s.PGSQL.${first.port}`))).toBe(true)
    expect(await second.stop()).toBe(0)
    expect(existsSync(join(dir, `.s.PGSQL.${first.port}`))).toBe(false)
  }, 90_000)
})
