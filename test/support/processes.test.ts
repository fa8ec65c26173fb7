import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'pg'
import { expect, test } from 'vitest'
import { startPostgres } from './postgres.ts'
import { startProxyFromFile } from './processes.ts'
import { tempFolder } from './temp-folder.ts'

test('a proxy started from a file passes queries on, and ends with code 0 when asked to', async () => {
  const postgres = await startPostgres({ auth: 'scram-sha-256', sql: ["CREATE ROLE app LOGIN PASSWORD 'secret'"] })
  const file = join(await tempFolder(), 'app.toml')
  await writeFile(
    file,
    `[pools.app]
     database = "postgres"
     servers = [{ host = "127.0.0.1", port = ${postgres.port}, role = "primary" }]
     [pools.app.users.app]
     password = "secret"`,
  )

  const proxy = await startProxyFromFile(file)
  const client = new Client({ connectionString: proxy.url('app', 'secret', 'app') })
  await client.connect()
  const { rows } = await client.query('SELECT current_user AS name, current_database() AS database')
  await client.end()
  const code = await proxy.stop()

  expect(rows).toEqual([{ name: 'app', database: 'postgres' }])
  expect(code).toBe(0)
})
