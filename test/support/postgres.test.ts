import { Client } from 'pg'
import { expect, test } from 'vitest'
import { processesOfThisFile } from './marked-processes.ts'
import { startPostgres } from './postgres.ts'

test.for(['password', 'md5', 'scram-sha-256'] as const)(
  'a cluster with %s lets in who knows the password',
  async (auth) => {
    const postgres = await startPostgres({ auth, sql: ["CREATE ROLE app LOGIN PASSWORD 'secret'"] })

    const right = new Client({ connectionString: postgres.url('app', 'secret') })
    await right.connect()
    const { rows } = await right.query('SELECT current_user AS name')
    await right.end()
    const wrong = new Client({ connectionString: postgres.url('app', 'guess') })
    const refusal = await wrong.connect().then(
      () => 'let in',
      (error: { code: string }) => error.code,
    )

    expect(rows).toEqual([{ name: 'app' }])
    expect(refusal).toBe('28P01')
    await postgres.stop()
  },
)

test('a stopped and a crashed cluster start again with their data', async () => {
  const postgres = await startPostgres({ sql: ['CREATE TABLE kept AS SELECT 42 AS answer'] })

  await postgres.stop('fast')
  await postgres.start()
  await postgres.sql('CHECKPOINT')
  await postgres.crash()
  await postgres.start()

  expect((await postgres.sql('SELECT answer FROM kept')).rows).toEqual([{ answer: 42 }])
})

test('a running cluster carries the mark by which left processes are found', async () => {
  const postgres = await startPostgres()

  const pids = processesOfThisFile().map(({ pid }) => pid)

  expect(pids).toContain(postgres.pid)
})
