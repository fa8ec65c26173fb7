/** A fleet of one proxy whose process may be followed by the next one on the same address. */
import { join } from 'node:path'
import { Client } from 'pg'
import { atEndOfFile } from '../../support/cleanup.ts'
import type { Postgres } from '../../support/postgres.ts'
import { startProxy } from '../../support/processes.ts'
import type { ProxyOptions, ProxyProcess } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { common, fleet, startWorld } from './world.ts'
import type { World } from './world.ts'

const sql = ['CREATE ROLE app LOGIN']

export function documentOf(general: object): (postgres: Postgres) => object {
  return ({ port }) => ({
    ...common,
    general: { ...common.general, ...general },
    defaults: { pool_size: 5 },
    pools: {
      app: { database: 'postgres', servers: [{ host: '127.0.0.1', port }], users: { app: { password: 'app' } } },
      sessions: {
        database: 'postgres',
        pool_mode: 'session',
        servers: [{ host: '127.0.0.1', port }],
        users: { app: { password: 'app' } },
      },
    },
  })
}

export interface Restartable extends World {
  readonly first: ProxyProcess
  readonly takeover: string
  /** A process that takes over, started as the first one was. */
  readonly next: (more?: ProxyOptions) => Promise<ProxyProcess>
}

export async function startRestartable(general: object, path?: string): Promise<Restartable> {
  const takeover = path ?? join(await tempFolder(), 'takeover')
  const environment = { FLOTILLA_TAKEOVER: takeover }
  const world = await startWorld({
    postgres: { sql, maxConnections: 100 },
    proxies: [{ id: 'proxy-1', environment }],
    document: documentOf(general),
  })
  const first = world.proxies[0] as ProxyProcess
  const { control, token } = world
  // A port of its own for HTTP, so that the one that answers there is the next.
  const same = { id: 'proxy-1', environment, port: first.port, state: first.state as string }
  return {
    ...world,
    first,
    takeover,
    next: async (more = {}) => await startProxy({ control, fleet, token }, { ...same, ...more }),
  }
}

/** Clients that were sent away while they were idle. */
export const gone = new WeakSet<Client>()

/** Where clients connect: an address, or a folder with a Unix socket. */
export interface Place {
  readonly host: string
  readonly port: number
}

export async function connected({ host, port }: Place): Promise<Client> {
  const client = new Client({ host, port, user: 'app', password: 'app', database: 'app' })
  client.on('error', (error: Error & { code?: string }) => {
    if (error.code === '57P01' || error.message === 'Connection terminated unexpectedly') gone.add(client)
  })
  await client.connect()
  atEndOfFile(async () => await client.end().catch(() => undefined))
  return client
}
