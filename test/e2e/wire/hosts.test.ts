/** Hosts that change behind the proxy: other addresses, and a machine that has forgotten its connections. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { startEngine } from '../../support/engine.ts'
import type { Document } from '../../support/engine.ts'
import { query } from '../../support/frontend-messages.ts'
import { NetworkNamespace } from '../../support/network-namespace.ts'
import { describe, transcript } from '../../support/oracle.ts'
import { startPostgres } from '../../support/postgres.ts'
import { WireClient } from '../../support/wire.ts'

function documentTo({ host, port }: { host: string; port: number }): Document {
  return {
    defaults: { auth_type: 'trust' },
    pools: { postgres: { servers: [{ host, port }], users: { app: { server_user: 'postgres', pool_size: 1 } } } },
  }
}

const login = { user: 'app', database: 'postgres' }

async function ask(client: WireClient, sql: string): Promise<string[]> {
  return await transcript(client, [{ send: [query(sql)], until: 'Z' }])
}

test('98: when the addresses of a name change, a transaction ends where it began and the next goes to the new one', async () => {
  const old = await startPostgres()
  await startPostgres({ host: '127.0.0.2', port: old.port })
  const engine = await startEngine(documentTo(old))
  const client = await WireClient.login(engine, login)
  const where = "SELECT host(inet_server_addr()) = '127.0.0.1' AS old"
  await ask(client, 'BEGIN')

  await engine.post({ type: 'addresses', hosts: { [old.host]: ['127.0.0.2'] } })
  const inside = await ask(client, where)
  await ask(client, 'COMMIT')
  const after = await ask(client, where)

  const row = (value: 't' | 'f'): string => `D 000100000001${Buffer.from(value).toString('hex')}`
  expect([inside[1], after[1]]).toEqual([row('t'), row('f')])
  expect(
    (await old.sql('SELECT FROM pg_stat_activity WHERE client_port <> 0 AND pid <> pg_backend_pid()')).rowCount,
  ).toBe(0)
  client.destroy()
})

const namespace = await NetworkNamespace.make()
if (typeof namespace === 'string') console.log(`97 is skipped: ${namespace}`)

test.skipIf(typeof namespace === 'string')(
  '97: a query into a connection that its host has forgotten is one error, and is not sent again',
  async () => {
    if (typeof namespace === 'string') return
    const postgres = await startPostgres({ host: namespace.there, namespace: namespace.name })
    await postgres.sql('CREATE TABLE asked (n int)')
    const engine = await startEngine(documentTo(postgres))
    const client = await WireClient.login(engine, login)
    await ask(client, 'SELECT 1')

    await namespace.cut()
    await promisify(execFile)('ip', ['netns', 'exec', namespace.name, 'ss', '-K', 'dst', namespace.here])
    await namespace.mend()
    client.send(query('INSERT INTO asked VALUES (1)'))
    const { messages } = await client.readToEnd()
    const next = await WireClient.login(engine, login)
    await ask(next, 'INSERT INTO asked VALUES (2)')

    expect(messages.map(describe)).toEqual([expect.stringMatching(/^E FATAL 08006/)])
    expect(await engine.lostUntil(() => true)).toMatchObject({ cause: 'reset', state: 'active', client_hurt: true })
    expect((await postgres.sql('SELECT n FROM asked')).rows).toEqual([{ n: 2 }])
    next.destroy()
  },
)
