/** The second incident: a database that dies without a word. Times are the issue's own. */
import { expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { query } from '../../support/frontend-messages.ts'
import { NetworkNamespace } from '../../support/network-namespace.ts'
import type { Postgres } from '../../support/postgres.ts'
import { WireClient } from '../../support/wire.ts'
import type { Message } from '../../support/wire.ts'
import { common, connect, fleet, openConsole, startWorld } from './world.ts'

const detectedMsMax = { app: 31_000, fast: 4_000 } as const
type Pool = keyof typeof detectedMsMax

function document(postgres: Postgres): object {
  const servers = [{ host: postgres.host, port: postgres.port, role: 'primary' }]
  const users = { app: { password: 'app', server_user: 'postgres', pool_size: 3 } }
  return {
    ...common,
    pools: {
      app: { database: 'postgres', servers, users },
      fast: {
        database: 'postgres',
        servers,
        users,
        tcp_keepalives_idle: '1s',
        tcp_keepalives_interval: '1s',
        tcp_keepalives_count: 2,
        tcp_user_timeout: '3s',
      },
    },
  }
}

interface Lost {
  readonly id: string
  readonly at: string
  readonly pool: Pool
  readonly cause: string
  readonly state: string
  readonly client_hurt: boolean
}

const namespace = await NetworkNamespace.make()
if (typeof namespace === 'string') console.log(`dead-database.test.ts is skipped: ${namespace}`)

test.skipIf(typeof namespace === 'string')(
  'a database behind a cut link is found dead in time, whatever its servers were doing, and comes back by itself',
  async () => {
    if (typeof namespace === 'string') return
    const { control, proxies } = await startWorld({
      postgres: { host: namespace.there, namespace: namespace.name },
      proxies: [{ id: 'proxy-1' }],
      document,
    })
    const proxy = proxies[0] as (typeof proxies)[0]
    const operator = await openConsole(proxy)
    const lost = async (): Promise<Lost[]> => {
      const { body } = await control.call('GET', `/v1/fleets/${fleet}/disconnects?limit=500`)
      return (body as { disconnects: Lost[] }).disconnects
    }

    // In each pool: a server that is idle, one whose query PostgreSQL has got, one in a transaction.
    const login = { user: 'app', password: 'app' }
    const people: { pool: Pool; asleep: WireClient; inside: WireClient }[] = []
    for (const pool of ['app', 'fast'] as const) {
      const [idle, asleep, inside] = await Promise.all(
        Array.from({ length: 3 }, () => WireClient.login(proxy, { ...login, database: pool })),
      )
      if (idle === undefined || asleep === undefined || inside === undefined) throw new Error('three clients log in')
      for (const client of [idle, asleep, inside]) client.send(query('BEGIN'))
      for (const client of [idle, asleep, inside]) await client.readUntil('Z')
      idle.send(query('COMMIT'))
      await idle.readUntil('Z')
      asleep.send(query('SELECT pg_sleep(600)'))
      people.push({ pool, asleep, inside })
    }
    await until(async () => {
      const { rows } = await operator.query<{ state: string; database: string }>('SHOW SERVERS')
      return rows.filter((row) => row.state === 'idle' && row.database !== 'pgbouncer').length === 2
    })

    await until(async () => (await namespace.unacknowledgedBytes()) === 0)
    await namespace.cut()
    const cutAtMs = Date.now()
    // A query that is sent into the cut: keepalive probes are silent while it stays unacknowledged.
    for (const { inside } of people) inside.send(query('SELECT 1'))
    const ends = people.map(({ pool, asleep, inside }) => ({
      pool,
      asleep: readToTheEnd(asleep),
      inside: readToTheEnd(inside),
    }))

    for (const end of ends) {
      for (const messages of [await end.asleep, await end.inside]) {
        expect(Date.now() - cutAtMs).toBeLessThan(detectedMsMax.app + 1000)
        expect(messages.map((message) => message.tag)).toEqual(['E'])
        expect(messages[0]?.body.toString()).toContain('C08006\0')
      }
    }
    await until(async () => (await established(lost)).length === 6)
    for (const pool of ['app', 'fast'] as const) {
      const events = (await established(lost)).filter((event) => event.pool === pool)
      for (const event of events) expect(Date.parse(event.at) - cutAtMs).toBeLessThan(detectedMsMax[pool])
      expect(events.map((event) => `${event.state}: ${event.cause}, hurt ${event.client_hurt}`).toSorted()).toEqual([
        'active: keepalive_timeout, hurt true',
        'active: user_timeout, hurt true',
        'idle: keepalive_timeout, hurt false',
      ])
    }

    // Clients that come now wait to be greeted by a server, and are served when the link returns: no pool is stuck.
    const answers = (['app', 'fast'] as const).map(
      async (database) => await (await connect(proxy, { database })).query('SELECT 1 AS one'),
    )
    await until(async () => {
      const { rows } = await operator.query<{ cl_waiting: number }>('SHOW POOLS')
      return rows.reduce((sum, row) => sum + row.cl_waiting, 0) === 2
    })
    await namespace.mend()
    for (const answer of answers) expect((await answer).rows).toEqual([{ one: 1 }])

    const all = await lost()
    expect(new Set(all.map((event) => event.id)).size).toBe(all.length)
    expect(await established(lost)).toHaveLength(6)
  },
  120_000,
)

/** Losses of connections that were open: attempts to connect while the link was cut are events of their own. */
async function established(lost: () => Promise<Lost[]>): Promise<Lost[]> {
  return (await lost()).filter((event) => event.state !== 'login')
}

async function readToTheEnd(client: WireClient): Promise<Message[]> {
  const messages: Message[] = []
  try {
    for (;;) messages.push(await client.read())
  } catch {
    return messages
  }
}
