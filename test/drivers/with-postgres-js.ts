/** What postgres.js does: it prepares every query, and sends the next before the last is answered. */
import { readFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { Readable } from 'node:stream'
import postgres from 'postgres'
import { clientCount, fact, move } from './facts.ts'

const options = { max: 1, ssl: false, onnotice: () => undefined } as const
const failureOf = async (asked: PromiseLike<unknown>): Promise<unknown> => {
  try {
    await asked
    return 'no error'
  } catch (error) {
    return (error as { code?: string }).code
  }
}

const clients = Array.from({ length: clientCount }, () => postgres(options))
const [client, other] = clients as [postgres.Sql, postgres.Sql]

fact('simple', await client.unsafe('SELECT 1 AS a; SELECT 2 AS b').simple())

const holding = postgres(options)
const holder = await holding.reserve()
await move(
  clients.map((sql) => ({
    next: async (n: number) => {
      const rows = await sql<{ value: number; pid: number }[]>`SELECT ${n}::int + 1 AS value, pg_backend_pid() AS pid`
      return rows[0] as { value: number; pid: number }
    },
  })),
  { begin: () => holder`BEGIN`.simple(), commit: () => holder`COMMIT`.simple() },
)
holder.release()
await holding.end()

fact(
  'at once',
  await Promise.all(
    clients.flatMap((sql, index) =>
      Array.from({ length: 20 }, async (_, n) => {
        const rows = await sql<{ value: number }[]>`SELECT ${index * 100 + n}::int + 1 AS value`
        return rows[0]?.value
      }),
    ),
  ),
)

const rolledBack = client.begin(async (sql) => {
  await sql`INSERT INTO smoke VALUES (${1}, ${'rolled back'})`
  return [await sql`SELECT 1 AS a`, await sql`SELECT 1 / ${0}::int`]
})
fact('error in a transaction', await failureOf(rolledBack))
await client.begin(async (sql) => {
  await sql`INSERT INTO smoke VALUES (${2}, ${'kept'})`
  await sql.savepoint((inner) => inner`SELECT 1 / ${0}::int`).catch(() => undefined)
  await sql`INSERT INTO smoke ${sql([{ n: 3, t: 'kept' }])}`
})
fact('rows', await other`SELECT * FROM smoke ORDER BY n`)

const inOneGo = [client`SELECT 1 AS a`, client`SELECT 1 / ${0}::int AS b`, client`SELECT ${3}::int AS c`]
const outcomes = await Promise.allSettled(inOneGo)
fact(
  'pipeline',
  outcomes.map((one) => (one.status === 'fulfilled' ? one.value : (one.reason as { code: string }).code)),
)
fact('a text that is wrong', await failureOf(client`SELECT FROM FROM`))

const lines = Array.from({ length: 2000 }, (_, n) => `${n}\tline ${n}\n`)
await client`TRUNCATE smoke`
await pipeline(Readable.from(lines), await client`COPY smoke FROM STDIN`.writable())
fact('copied in', await other`SELECT count(*)::int, sum(n)::int FROM smoke`)
fact('copied out', (await text(await client`COPY (SELECT n FROM smoke ORDER BY n) TO STDOUT`.readable())).length)

const cursor: unknown[] = []
await client`SELECT n FROM smoke ORDER BY n`.cursor(500, (rows) => void cursor.push(rows.length))
fact('rows by a cursor', cursor)

fact(
  'types',
  await client`
    SELECT ${'9007199254740993'}::bigint, ${'1.50'}::numeric, ${Buffer.from([0, 255])}::bytea AS b,
      ${new Date(0)}::timestamptz AS at, ${true}::boolean AS yes, ${[1, 2]}::int[] AS many,
      ${client.json({ a: ['ü'] })}::jsonb AS json, NULL AS nothing`,
)

// A client that prepares the same text after its types have changed.
await other.unsafe('CREATE TABLE changed (v int)').simple()
const insert = async (sql: postgres.Sql, value: number | boolean) =>
  (await sql`INSERT INTO changed VALUES (${value})`).count
fact('before a change of the schema', await insert(client, 1))
await other.unsafe('DROP TABLE changed; CREATE TABLE changed (v bool)').simple()
const late = postgres(options)
fact('after it', [await insert(late, true), await late`SELECT v FROM changed`])
await late.unsafe('DROP TABLE changed').simple()
await late.end()

await client`SET TimeZone = 'Asia/Tokyo'`
fact('TimeZone', await client`SELECT timestamptz '2000-01-01 00:00Z'::text AS at`)
fact('TimeZone of another', await other`SHOW TimeZone`)
await other.unsafe('DISCARD ALL').simple()
fact('after DISCARD ALL', await other.unsafe('SELECT 1 AS a'))

const sleeping = client`SELECT pg_sleep(60)`.execute()
const running = `SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND datname = current_database()`
while ((await other.unsafe(`${running} AND state = 'active'`)).count === 0);
sleeping.cancel()
fact('canceled', await failureOf(sleeping))
fact('after the cancel', await client`SELECT ${6}::int AS n`)

const secure = postgres({ ...options, ssl: { ca: readFileSync(process.env['PGSSLROOTCERT'] ?? '') } })
fact('TLS', await secure`SELECT ${'secure'} AS t`)
await Promise.all([...clients, secure].map((sql) => sql.end()))
