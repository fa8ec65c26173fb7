/** Many clients at once on few servers: each sees its own answers, its own transaction and its own settings. */
import { beforeAll, expect, test } from 'vitest'
import { bind, execute, flush, parse, query, sync } from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import type { WireClient } from '../../support/wire.ts'
import { Random } from '../../sim/random.ts'
import { loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({ sql: ['CREATE TABLE seen (who int, round int)', 'ALTER TABLE seen OWNER TO app'] })
})

const zones = ['Asia/Tokyo', 'Europe/Berlin', 'America/Lima']

test.for(['transaction1', 'transaction5'])(
  '30 clients of %s never see each other’s answers or settings',
  async (pool) => {
    const clients = await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        const parameters = { application_name: `client ${i}`, TimeZone: zones[i % zones.length] as string }
        return await loginTo(world, pool, { parameters })
      }),
    )

    await Promise.all(clients.map((client, i) => live(client, i, new Random(i))))

    const { rows } = await world.postgres.sql('SELECT count(*)::int AS rows FROM seen', [], 'app')
    expect(rows).toEqual([{ rows: 30 * roundsOfEach }])
    expect(await world.engine.pool(pool)).toMatchObject({ clientsActive: 0, clientsWaiting: 0, serversActive: 0 })
    for (const client of clients) client.destroy()
    await world.postgres.sql('TRUNCATE seen', [], 'app')
  },
)

const roundsOfEach = 20

async function live(client: WireClient, i: number, random: Random): Promise<void> {
  const own = `client ${i} ${zones[i % zones.length]}`
  const whose = `current_setting('application_name') || ' ' || current_setting('TimeZone')`
  for (let round = 0; round < roundsOfEach; round++) {
    const mark = `${i}.${round}`
    const asked = random.weighted({ simple: 3, extended: 3, transaction: 3, failure: 2, flushed: 1 })
    switch (asked) {
      case 'simple':
        client.send(query(`SELECT '${mark}', ${whose}`))
        break
      case 'extended':
        client.send(parse('', `SELECT $1, ${whose}`), bind('', '', [mark]), execute(''), sync)
        break
      case 'transaction':
        client.send(query('BEGIN'), query(`SELECT '${mark}', ${whose}`), query('COMMIT'))
        break
      case 'failure':
        client.send(query('BEGIN'), query('SELECT 1/0'), query('ROLLBACK'), query(`SELECT '${mark}', ${whose}`))
        break
      case 'flushed':
        client.send(parse('', `SELECT $1, ${whose}`), bind('', '', [mark]), execute(''), flush)
        await client.readUntil('2')
        client.send(sync)
        break
      default:
        asked satisfies never
    }
    const ready = { simple: 1, extended: 1, transaction: 3, failure: 4, flushed: 1 }[asked]
    const rows = (await client.readUntil('Z', ready)).filter(({ tag }) => tag === 'D').map(textOfRow)
    expect(rows).toEqual([[mark, own]])
    client.send(query(`INSERT INTO seen VALUES (${i}, ${round})`))
    expect((await client.readUntil('Z')).map(describe)).toEqual(['C INSERT 0 1', 'Z I'])
  }
}

function textOfRow({ body }: { body: Buffer }): string[] {
  const values: string[] = []
  for (let at = 2; at < body.length;) {
    const length = body.readInt32BE(at)
    values.push(body.toString('utf8', at + 4, at + 4 + length))
    at += 4 + length
  }
  return values
}
