/**
 * What pg-query-stream and the pg-cursor within it do: rows by the portion, with an Execute for each and a Flush in place
 * of the Sync, which comes at the end alone.
 */
import { once } from 'node:events'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Client, Pool } from 'pg'
import type { PoolClient, Submittable } from 'pg'
import QueryStream from 'pg-query-stream'
import { clientCount, fact, move } from './facts.ts'

/** Of pg-cursor, which has no types. */
interface Cursor extends Submittable {
  read(rows: number): Promise<unknown[]>
  close(): Promise<void>
}

const serverSet = new Pool({ ssl: false, max: clientCount })
const clients = await Promise.all(Array.from({ length: clientCount }, () => serverSet.connect()))
const [client, other] = clients as [PoolClient, PoolClient]

const failureOf = async (asked: Promise<unknown>): Promise<unknown> =>
  await asked.then(
    () => 'no error',
    (error: { code?: string }) => error.code,
  )

async function rowsOf(one: PoolClient, text: string, values: unknown[], batchSize: number): Promise<unknown[]> {
  const rows: unknown[] = []
  for await (const row of one.query(new QueryStream(text, values, { batchSize, rowMode: 'array' }))) rows.push(row)
  return rows
}

/** A cursor alone, as what a stream is made of. */
function cursorOf(one: PoolClient, text: string, values: unknown[] = []): Cursor {
  return one.query(new QueryStream(text, values, { rowMode: 'array' }).cursor as Cursor)
}

const holder = new Client({ ssl: false })
await holder.connect()
await move(
  clients.map((one) => ({
    next: async (n: number) => {
      const rows = await rowsOf(one, 'SELECT $1::int + 1, pg_backend_pid() FROM generate_series(1, 3)', [n], 1)
      const [[value, pid] = [0, 0]] = rows as [number, number][]
      return { value, pid: new Set(rows.map((row) => (row as [number, number])[1])).size === 1 ? pid : 0 }
    },
  })),
  { begin: () => holder.query('BEGIN'), commit: () => holder.query('COMMIT') },
)
await holder.end()

const series = 'SELECT n FROM generate_series(1, $1::int) AS n'
for (const batchSize of [1, 7, 100, 1000]) {
  const rows = (await rowsOf(client, series, [250], batchSize)) as [number][]
  fact(`in portions of ${batchSize}`, [rows.length, rows.reduce((sum, [n]) => sum + n, 0)])
}
fact('nothing', await rowsOf(client, series, [0], 10))
fact('no rows to be had', await rowsOf(client, "INSERT INTO smoke VALUES (1, 'kept')", [], 10))
fact('rows of what changes', await rowsOf(client, 'INSERT INTO smoke SELECT generate_series(2, 9) RETURNING n', [], 3))

async function all(cursor: Cursor, rows: number): Promise<unknown[]> {
  const portions: unknown[] = []
  for (;;) {
    const portion = await cursor.read(rows)
    portions.push(portion)
    if (portion.length < rows) return portions
  }
}

// Two cursors in turn, each on a server that no other client may have meanwhile.
const [one, two] = [cursorOf(client, series, [10]), cursorOf(other, series, [10])]
const inTurn = [await one.read(4), await two.read(4), await one.read(4), await two.read(4)]
const waiting = (clients[2] as PoolClient).query(series, [3])
fact('in turn', [...inTurn, await all(one, 4), await all(two, 4)])
fact('who waited', (await waiting).rows)

const left = cursorOf(client, series, [1000])
fact('the first of many', await left.read(2))
await left.close()
fact('after a cursor that was left', (await client.query(series, [2])).rows)

await client.query('BEGIN')
const within = cursorOf(client, 'SELECT n FROM generate_series(1, 5) AS n')
fact('within a transaction', await within.read(2))
await within.close()
await client.query("INSERT INTO smoke VALUES (100, 'after the cursor')")
await client.query('COMMIT')
fact('committed', (await other.query('SELECT count(*) FROM smoke WHERE n = 100')).rows)

const failing = 'SELECT 10 / (5 - n) FROM generate_series(1, 10) AS n'
const before = cursorOf(client, failing)
fact('before the error', await before.read(3))
fact('error between portions', await failureOf(all(before, 3)))
fact('after the error', (await client.query(series, [1])).rows)
fact('error in a stream', await failureOf(rowsOf(client, failing, [], 2)))
fact('a text that is wrong', await failureOf(rowsOf(client, 'SELECT FROM FROM', [], 2)))
await client.query('BEGIN')
fact('error in a transaction', await failureOf(rowsOf(client, failing, [], 2)))
fact('the transaction after it', await failureOf(rowsOf(client, 'SELECT 1', [], 2)))
await client.query('ROLLBACK')
fact('after the rollback', await rowsOf(client, series, [1], 2))

const destroyed = client.query(new QueryStream(series, [100_000], { highWaterMark: 10 }))
await once(destroyed, 'readable')
destroyed.destroy()
await once(destroyed, 'close')
fact('after a stream that was destroyed', (await client.query(series, [2])).rows)

let bytes = 0
const slow = new Writable({
  objectMode: true,
  highWaterMark: 1,
  write: ({ text }: { text: string }, _, done) => {
    bytes += text.length
    setImmediate(done)
  },
})
const wide = "SELECT repeat('x', 10000) AS text FROM generate_series(1, $1::int)"
await pipeline(client.query(new QueryStream(wide, [2000], { highWaterMark: 20 })), slow)
fact('to a slow reader', bytes)

const streams = clients.map(async (each, index) => (await rowsOf(each, series, [100 + index], 9)).length)
fact('at once', await Promise.all(streams))

for (const each of clients) each.release()
await serverSet.end()
