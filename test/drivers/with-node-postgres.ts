/** What node-postgres does; connection settings come by PGHOST and so on. */
import { readFileSync } from 'node:fs'
import { Client, Query } from 'pg'
import { clientCount, fact, move } from './facts.ts'

const secured = { ssl: { ca: readFileSync(process.env['PGSSLROOTCERT'] ?? '') } }

async function connected(options: object = {}): Promise<Client> {
  const client = new Client({ ssl: false, ...options })
  await client.connect()
  return client
}

const failureOf = async (asked: Promise<unknown>): Promise<unknown> =>
  await asked.then(
    () => 'no error',
    (error: { code?: string }) => error.code,
  )

const clients = await Promise.all(Array.from({ length: clientCount }, () => connected()))
const [client, other] = clients as [Client, Client]

const several = (await client.query('SELECT 1 AS a; SELECT 2 AS b')) as unknown as { rows: unknown }[]
fact(
  'simple',
  several.map(({ rows }) => rows),
)

const named = { name: 'next', text: 'SELECT $1::int + 1 AS value, pg_backend_pid() AS pid' }
const holder = await connected()
await move(
  clients.map((one) => ({
    next: async (n: number) => {
      const { rows } = await one.query<{ value: number; pid: number }>({ ...named, values: [n] })
      return rows[0] as { value: number; pid: number }
    },
  })),
  { begin: () => holder.query('BEGIN'), commit: () => holder.query('COMMIT') },
)
await holder.end()

async function manyOf(one: Client, from: number): Promise<unknown[]> {
  const values: unknown[] = []
  for (let n = from; n < from + 20; n++) {
    const { rows } = await one.query<{ value: number }>({ ...named, values: [n] })
    values.push(rows[0]?.value)
  }
  return values
}
fact('at once', await Promise.all(clients.map((one, index) => manyOf(one, index * 100))))

await client.query('BEGIN')
await client.query({ name: 'insert', text: 'INSERT INTO smoke VALUES ($1, $2)', values: [1, 'rolled back'] })
await client.query('ROLLBACK')
await client.query('BEGIN')
await client.query({ name: 'insert', text: 'INSERT INTO smoke VALUES ($1, $2)', values: [2, 'kept'] })
fact('error in a transaction', await failureOf(client.query({ name: 'zero', text: 'SELECT 1/$1::int', values: [0] })))
fact('the transaction after it', await failureOf(client.query({ ...named, values: [0] })))
await client.query('ROLLBACK')
await client.query({ name: 'insert', text: 'INSERT INTO smoke VALUES ($1, $2)', values: [3, 'kept'] })
fact('rows', (await other.query('SELECT * FROM smoke ORDER BY n')).rows)

fact('error', await failureOf(client.query({ name: 'zero', text: 'SELECT 1/$1::int', values: [0] })))
fact('after the error', (await client.query({ name: 'zero', text: 'SELECT 1/$1::int', values: [1] })).rows)
fact('a text that is wrong', await failureOf(client.query({ name: 'wrong', text: 'SELECT FROM FROM' })))

for (const binary of [false, true]) {
  const { rows } = await client.query({
    name: `types${binary}`,
    text: `SELECT $1::bigint, $2::numeric, $3::bytea, $4::timestamptz, $5::boolean, $6::int[], $7::jsonb, $8::uuid, NULL AS n`,
    values: [
      '9007199254740993',
      '1.50',
      Buffer.from([0, 255]),
      new Date(0),
      true,
      [1, 2],
      { a: ['ü'] },
      '00000000-0000-0000-0000-00000000000a',
    ],
    // Its types do not have it, but node-postgres takes it: results in the binary format.
    ...(binary ? { binary } : {}),
  })
  fact(`types, binary ${binary}`, rows)
}

await client.query(`SET TimeZone = 'Asia/Tokyo'`)
await other.query('BEGIN')
fact('TimeZone', (await client.query(`SELECT timestamptz '2000-01-01 00:00Z'::text AS at`)).rows)
await other.query('COMMIT')
fact('TimeZone of another', (await other.query('SHOW TimeZone')).rows)

await other.query({ name: 'unused', text: 'SELECT 1' })
for (const text of ['DEALLOCATE unused', 'DISCARD ALL', 'DEALLOCATE ALL']) fact(text, (await other.query(text)).command)

const sleeping = new Query('SELECT pg_sleep(60)')
const canceled = new Promise((resolve) => sleeping.once('error', (error) => resolve((error as { code?: string }).code)))
client.query(sleeping)
const running = `SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND datname = current_database()`
while ((await other.query(`${running} AND state = 'active'`)).rowCount === 0);
const canceler = new Client({ ssl: false }) as Client & { cancel(target: Client, query: Query<never>): void }
canceler.cancel(client, sleeping as never)
fact('canceled', await canceled)
fact('after the cancel', (await client.query({ ...named, values: [6] })).rows[0]?.value)

const secure = await connected(secured)
fact('TLS', (await secure.query({ name: 'again', text: 'SELECT $1::text AS t', values: ['secure'] })).rows)
await Promise.all([...clients, secure].map((one) => one.end()))
