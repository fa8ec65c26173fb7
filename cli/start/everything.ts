/** `npm start`: starts PostgreSQL, control and two proxies on this machine, and stops them in reverse order. */
import { appendFileSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { fleetSchema, writtenSchema } from '../../shared/api.ts'
import { Api } from '../api.ts'
import type { Surroundings } from '../command.ts'
import type { Failure } from '../failure.ts'
import { checkDatabase, embeddedDatabase } from './database.ts'
import type { Database } from './database.ts'
import { keptProxyToken, keptSecret, takeFolder } from './keep.ts'
import { checkFree, firstFree } from './ports.ts'
import { startFlotilla, Supervisor } from './supervised.ts'
import { welcome } from './welcome.ts'

export interface StartSettings {
  readonly dir: string
  readonly controlPort: number
  /** The second proxy listens on the next port. */
  readonly proxyPort: number
  readonly postgresUrl: string | undefined
}

const fleet = 'demo'
const proxyNames = ['proxy-1', 'proxy-2'] as const
/** The proxies' HTTP ports (health, metrics, hints) are the first two free ones from here. */
const firstHttpPort = 9930
const readyWithinMs = 20_000

/**
 * Resolves when the operator has stopped it and all children have exited.
 * @throws Failure in one line if a child cannot be started; nothing is left running.
 */
export async function runEverything(settings: StartSettings, around: Surroundings): Promise<void> {
  const startedAtMs = performance.now()
  const { say, print, stop, stopNow } = around
  const { folder, release } = await takeFolder(settings.dir)
  const supervisor = new Supervisor(say)
  try {
    await checkFree(settings.controlPort, '--control-port')
    for (const index of proxyNames.keys()) await checkFree(settings.proxyPort + index, '--proxy-port')
    const givenToken = around.environment['FLOTILLA_TOKEN'] ?? ''
    const token = givenToken === '' ? await keptSecret(join(folder, 'token')) : givenToken

    const database = await startDatabase(settings, folder, supervisor)
    const url = `http://127.0.0.1:${settings.controlPort}`
    await startControl(settings, folder, token, supervisor, around)
    const api = new Api({ url, token, fleet }, around)
    const version = await makeFleet(api, database)
    await startProxies(
      settings,
      folder,
      await keptProxyToken(join(folder, 'proxy-token'), api),
      url,
      supervisor,
      around,
    )
    if (stop.aborted) return

    print(
      welcome({
        readyMs: performance.now() - startedAtMs,
        dir: settings.dir,
        tokenIsKept: givenToken === '',
        version,
        controlPort: settings.controlPort,
        proxyPort: settings.proxyPort,
        database,
      }),
    )
    const stopped = new Promise<void>((resolve) => stop.addEventListener('abort', () => resolve(), { once: true }))
    await Promise.race([stopped, supervisor.givenUp])
    say('stopping; waiting for open transactions, press Ctrl-C again to stop at once')
  } finally {
    await supervisor.stop(stopNow)
    await release()
  }
}

async function startDatabase(settings: StartSettings, folder: string, supervisor: Supervisor): Promise<Database> {
  if (settings.postgresUrl !== undefined) return checkDatabase(settings.postgresUrl)
  const { database, run } = await embeddedDatabase(folder, logTo(folder, 'postgres'))
  await supervisor.add({ name: 'PostgreSQL', start: run, stopSignal: 'SIGINT', level: 0 })
  return database
}

async function startControl(
  settings: StartSettings,
  folder: string,
  token: string,
  supervisor: Supervisor,
  { environment }: Surroundings,
): Promise<void> {
  const onLine = logTo(folder, 'control')
  await supervisor.add({
    name: 'control',
    stopSignal: 'SIGTERM',
    level: 1,
    start: () =>
      startFlotilla({
        name: 'control',
        args: [
          'control',
          '--host',
          '127.0.0.1',
          '--port',
          String(settings.controlPort),
          '--data',
          join(folder, 'control'),
        ],
        environment: { ...environment, FLOTILLA_TOKEN: token },
        readyUrl: `http://127.0.0.1:${settings.controlPort}/readyz`,
        readyWithinMs,
        onLine,
      }),
  })
}

async function startProxies(
  settings: StartSettings,
  folder: string,
  token: string,
  control: string,
  supervisor: Supervisor,
  { environment }: Surroundings,
): Promise<void> {
  const start = async (name: string, index: number, http: number) => {
    const onLine = logTo(folder, name)
    const where = `http://127.0.0.1:${http}`
    await supervisor.add({
      name,
      stopSignal: 'SIGTERM',
      level: 2,
      isOptional: true,
      start: () =>
        startFlotilla({
          name,
          args: [
            ['proxy', '--control', control, '--fleet', fleet, '--id', name, '--state', join(folder, name)],
            ['--listen-host', '127.0.0.1', '--listen-port', String(settings.proxyPort + index)],
            ['--http-host', '127.0.0.1', '--http-port', String(http), '--hint-url', where],
          ].flat(),
          environment: { ...environment, FLOTILLA_TOKEN: undefined, FLOTILLA_PROXY_TOKEN: token },
          readyUrl: `${where}/readyz`,
          readyWithinMs,
          onLine,
        }),
    })
  }
  const ports = [await firstFree(firstHttpPort)]
  ports.push(await firstFree((ports[0] as number) + 1))
  const outcomes = await Promise.allSettled(proxyNames.map((name, index) => start(name, index, ports[index] as number)))
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason as Failure
}

/** Appends lines to a log file in the data directory, one per child; it stays open until this process ends. */
function logTo(folder: string, name: string): (line: string) => void {
  const file = openSync(join(folder, `${name}.log`), 'a', 0o600)
  return (line) => appendFileSync(file, `${line}\n`)
}

/** Creates the fleet and its first configuration, unless there is one. Returns the current version. */
async function makeFleet(api: Api, database: Database): Promise<number> {
  const { version } = await api.inFleet(fleetSchema, '', { method: 'PUT' })
  if (version > 0) return version
  const written = await api.inFleet(writtenSchema, '/config', {
    method: 'PUT',
    headers: { 'if-match': '"v0"', 'flotilla-message': 'created by npm start' },
    body: firstDocument(database),
  })
  return written.version
}

function firstDocument({ host, port, database, user, password }: Database): object {
  return {
    admin_users: { admin: { password: 'admin' } },
    pools: {
      app: {
        database,
        servers: [{ host, port, role: 'primary' }],
        users: {
          app: {
            password: 'app',
            server_user: user,
            ...(password === '' ? {} : { server_password: password }),
          },
        },
      },
    },
  }
}
