/** What Drizzle does on node-postgres and on postgres.js: statements under names, transactions, relations. */
import { and, count, eq, gt, sql } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { integer, jsonb, numeric, pgEnum, pgTable, serial, text, timestamp } from 'drizzle-orm/pg-core'
import { drizzle as onPostgresJs } from 'drizzle-orm/postgres-js'
import { Client, Pool } from 'pg'
import postgres from 'postgres'
import { clientCount, fact, move } from './facts.ts'

const smoke = pgTable('smoke', { n: integer(), t: text() })
const mood = pgEnum('mood', ['happy', 'sad'])
const people = pgTable('people', {
  id: serial().primaryKey(),
  name: text().notNull().unique(),
  mood: mood().notNull(),
  more: jsonb().$type<{ n: number[] }>(),
  numbers: integer().array(),
  price: numeric(),
  born: timestamp({ withTimezone: true }),
})

const failureOf = async (asked: Promise<unknown>): Promise<unknown> =>
  await asked.then(
    () => 'no error',
    (error: Error & { cause?: { code?: string } }) => error.cause?.code ?? error.message,
  )

const clients = Array.from({ length: clientCount }, () => new Client({ ssl: false }))
await Promise.all(clients.map((client) => client.connect()))
const holder = new Client({ ssl: false })
await holder.connect()
const next = clients.map((client) =>
  drizzle(client)
    .select({ value: sql<number>`${sql.placeholder('n')}::int + 1`, pid: sql<number>`pg_backend_pid()` })
    .from(sql`generate_series(1, 1)`)
    .prepare('next'),
)
await move(
  next.map((prepared) => ({
    next: async (n) => (await prepared.execute({ n }))[0] as { value: number; pid: number },
  })),
  { begin: () => holder.query('BEGIN'), commit: () => holder.query('COMMIT') },
)
await Promise.all([holder, ...clients].map((client) => client.end()))

const serverSet = new Pool({ ssl: false, max: clientCount })
const sqlClient = postgres({ ssl: false, max: clientCount, onnotice: () => {} })
await serverSet.query(
  `CREATE TABLE people (id serial PRIMARY KEY, name text NOT NULL UNIQUE, mood mood NOT NULL, more jsonb, numbers int[],
     price numeric, born timestamptz)`,
)

const databases = { 'node-postgres': drizzle(serverSet), 'postgres.js': onPostgresJs(sqlClient) }
for (const [name, database] of Object.entries(databases) as [string, (typeof databases)['node-postgres']][]) {
  const said = (what: string, value: unknown): void => fact(`${name}: ${what}`, value)
  await database.delete(people)
  await database.delete(smoke)
  const person = (n: number): typeof people.$inferInsert => ({
    name: `person ${n}`,
    mood: 'happy',
    more: { n: [n, 2] },
    numbers: [3, 4],
    price: '1.50',
    born: new Date(0),
  })
  const many = Array.from({ length: 300 }, (_, n) => person(n))
  said('inserted', (await database.insert(people).values(many).returning({ name: people.name })).length)
  const { name: column, mood: feels, more, numbers, price, born } = people
  const some = database.select({ column, feels, more, numbers, price, born }).from(people).orderBy(people.id).limit(2)
  said('selected', await some)
  said(
    'updated',
    (await database.update(people).set({ mood: 'sad' }).where(eq(people.name, 'person 7')).returning()).length,
  )
  const counted = database
    .select({ count: count() })
    .from(people)
    .where(and(eq(people.mood, sql.placeholder('mood')), gt(people.price, '1')))
    .prepare(`counted by ${name}`)
  const counts = Array.from({ length: 40 }, (_, n) => counted.execute({ mood: n % 2 === 0 ? 'happy' : 'sad' }))
  said(
    'at once',
    (await Promise.all(counts)).map(([row]) => row?.count),
  )
  said('a name that is taken', await failureOf(database.insert(people).values(person(1)).execute()))
  const upsert = database.insert(people).values(person(1))
  said(
    'upsert',
    await upsert.onConflictDoUpdate({ target: people.name, set: { mood: 'sad' } }).returning({ mood: people.mood }),
  )
  const broken = database.transaction(async (transaction) => {
    await transaction.insert(smoke).values({ n: 1, t: 'rolled back' })
    await transaction.select({ n: sql`1 / ${0}::int` }).from(smoke)
  })
  said('error in a transaction', await failureOf(broken))
  await database.transaction(
    async (transaction) => {
      await transaction.insert(smoke).values({ n: 2, t: 'kept' })
      const nested = transaction.transaction(async (savepoint) => {
        await savepoint.insert(smoke).values({ n: 3, t: 'rolled back' })
        savepoint.rollback()
      })
      said('savepoint', await nested.then(String, (error: Error) => error.message))
      const level = await transaction.execute(sql`SELECT current_setting('transaction_isolation') AS level`)
      said('isolation', [...((level as { rows?: unknown[] }).rows ?? (level as unknown as unknown[]))])
    },
    { isolationLevel: 'serializable', accessMode: 'read write' },
  )
  said('rows', await database.select().from(smoke))
  said('after it', (await counted.execute({ mood: 'sad' }))[0]?.count)
}
await Promise.all([serverSet.end(), sqlClient.end()])
