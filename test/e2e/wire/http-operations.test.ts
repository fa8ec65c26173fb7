/** Operations over a proxy's own HTTP port, without a control plane. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'pg'
import { expect, test } from 'vitest'
import { startPostgres } from '../../support/postgres.ts'
import { startProxyFromFile } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'

const token = 'a-token-of-this-proxy'

test.each([1, 2])('a proxy of %i workers pauses, resumes and reloads for callers with its token', async (workers) => {
  const postgres = await startPostgres({ auth: 'trust', sql: ['CREATE ROLE app LOGIN'] })
  const file = join(await tempFolder(), 'app.toml')
  const configuration = (database: string): string => `
    [general]
    workers = ${workers}
    [pools.app]
    database = "${database}"
    servers = [{ host = "127.0.0.1", port = ${postgres.port}, role = "primary" }]
    [pools.app.users.app]
    auth_type = "trust"`
  await writeFile(file, configuration('postgres'))
  const proxy = await startProxyFromFile(file, { environment: { FLOTILLA_HTTP_TOKEN: token } })
  const ask = async (path: string): Promise<string> => {
    const headers = { authorization: `Bearer ${token}` }
    const response = await fetch(`${proxy.httpUrl}${path}`, { method: 'POST', headers })
    return `${response.status} ${(await response.text()).trim()}`
  }
  const clients = Array.from({ length: 4 }, () => new Client({ connectionString: proxy.url('app', undefined, 'app') }))
  await Promise.all(clients.map(async (client) => await client.connect()))
  const databases = async (): Promise<string[]> =>
    await Promise.all(
      clients.map(async (client) => {
        const { rows } = await client.query<{ name: string }>('SELECT current_database() AS name')
        return rows[0]?.name ?? ''
      }),
    )
  expect(await databases()).toEqual(Array(4).fill('postgres'))

  const paused = await ask('/v1/pools/app/pause')
  const waiting = { isOver: false }
  const answers = databases().finally(() => (waiting.isOver = true))
  await writeFile(file, configuration('template1'))
  const reloaded = await ask('/v1/reload')
  const wasOver = waiting.isOver
  const resumed = await ask('/v1/pools/app/resume')

  expect(paused).toMatch(/^200 \{"known":true,"paused":true,/)
  expect([reloaded, wasOver]).toEqual(['200 reloaded', false])
  expect(resumed).toMatch(/^200 \{"known":true,"paused":false,/)
  expect(await answers).toEqual(Array(4).fill('template1'))

  await writeFile(file, `${configuration('postgres')}\npool_size = "many"`)
  expect(await ask('/v1/reload')).toMatch(/^503 .*pool_size/)
  expect(await ask('/v1/pools/missing/kill')).toMatch(/^404 \{"known":false/)
  expect(await databases()).toEqual(Array(4).fill('template1'))
  expect(proxy.log.join('\n')).not.toContain(token)

  await Promise.all(clients.map(async (client) => await client.end()))
  await proxy.stop()
})
