/** Sends leave together by io_uring or one by one: clients cannot tell, operators can. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Client } from 'pg'
import { beforeAll, expect, test } from 'vitest'
import { descriptorsOf } from '../../support/descriptors.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startPostgres } from '../../support/postgres.ts'
import type { ProxyProcess } from '../../support/processes.ts'
import { startProxyFromFile } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'

let postgres: Postgres
let file: string

beforeAll(async () => {
  postgres = await startPostgres({ auth: 'trust', sql: ['CREATE ROLE app LOGIN'] })
  file = join(await tempFolder(), 'app.toml')
  await writeFile(
    file,
    `[pools.app]
     database = "postgres"
     pool_size = 4
     servers = [{ host = "127.0.0.1", port = ${postgres.port}, role = "primary" }]
     [pools.app.users.app]
     auth_type = "trust"`,
  )
})

/** What 16 clients at once are answered, whose answers are short, long, and longer than a socket takes at a time. */
async function served(proxy: ProxyProcess): Promise<boolean> {
  const clients = Array.from({ length: 16 }, () => new Client({ connectionString: proxy.url('app', undefined, 'app') }))
  await Promise.all(clients.map(async (client) => await client.connect()))
  const right = await Promise.all(
    clients.map(async (client, number) => {
      for (const length of [1, 5_000, 3_000_000, 2]) {
        const { rows } = await client.query<{ text: string }>(`SELECT repeat($1, $2) AS text`, [
          String(number % 10),
          length,
        ])
        if (rows[0]?.text !== String(number % 10).repeat(length)) return false
      }
      return true
    }),
  )
  await Promise.all(clients.map(async (client) => await client.end()))
  return right.every(Boolean)
}

/** Of a process that runs. */
function ringsOf({ pid }: ProxyProcess): number {
  return descriptorsOf(pid as number).filter((what) => what === 'anon_inode:[io_uring]').length
}

const saidSo = 'io_uring is not available: each send is a system call'

test('by io_uring unless it is off, and clients are served alike', async () => {
  const [auto, off] = await Promise.all([
    startProxyFromFile(file),
    startProxyFromFile(file, { environment: { FLOTILLA_IO_URING: 'off' } }),
  ])

  // Node may have some of its own.
  expect(ringsOf(auto)).toBe(ringsOf(off) + 1)
  expect(await served(auto)).toBe(true)
  expect(await served(off)).toBe(true)
  expect([...auto.log, ...off.log].filter((line) => line.includes(saidSo))).toEqual([])
  expect(await Promise.all([auto.stop(), off.stop()])).toEqual([0, 0])
})

test('where the kernel refuses it that is said once, and clients are served alike', async () => {
  const forbid = new URL('../../support/forbid-io-uring.ts', import.meta.url).href
  const proxy = await startProxyFromFile(file, {
    environment: { NODE_OPTIONS: `--import ${forbid}` },
  })

  expect(await served(proxy)).toBe(true)
  const lines = proxy.log.filter((line) => line.includes(saidSo))
  expect(lines).toHaveLength(1)
  expect(lines[0]).toContain('EPERM')
  expect(await proxy.stop()).toBe(0)
})
