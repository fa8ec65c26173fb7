/** One proxy process follows another on the same address, while clients go on with their transactions. */
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Client } from 'pg'
import { describe, expect, test } from 'vitest'
import { until } from '../../support/engine.ts'
import { cancelRequest, query } from '../../support/frontend-messages.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { errorFields, WireClient } from '../../support/wire.ts'
import { connected, documentOf, startRestartable } from './restartable.ts'
import type { Place } from './restartable.ts'
import { connect, fleet, openConsole, untilRuns } from './world.ts'
import type { World } from './world.ts'

/** A client of `proxy` whose query sleeps until it is canceled. */
async function sleeper(proxy: Place, { postgres }: World): Promise<WireClient> {
  const before = await postgres.activeQueries('SELECT pg_sleep(600)%')
  const client = await WireClient.login(proxy, { user: 'app', password: 'app' })
  client.send(query('SELECT pg_sleep(600)'))
  await until(async () => (await postgres.activeQueries('SELECT pg_sleep(600)%')) === before + 1)
  return client
}

/** Resolves when the request was passed on, or had nothing to hit. */
async function cancel(at: Place, pid: number, secret: Uint8Array): Promise<void> {
  const request = await WireClient.connect(at)
  request.send(cancelRequest(pid, secret))
  await request.readToEnd()
  request.destroy()
}

async function sqlstateOf(client: WireClient): Promise<string | undefined> {
  const error = (await client.readUntil('Z')).find(({ tag }) => tag === 'E')
  client.destroy()
  return error === undefined ? undefined : errorFields(error)['C']
}

describe.each([1, 2])('with %i workers', (workers) => {
  test('a cancel request finds its client in the process that drains, and a wrong key finds none', async () => {
    const world = await startRestartable({ workers, drain_rate: 0 })
    const { first, next } = world
    // With two workers, some for each of them.
    const sleepers = [await sleeper(first, world), await sleeper(first, world), await sleeper(first, world)]
    await next()
    await first.logged(/the other process serves clients/)
    const newcomer = await sleeper(first, world)

    const keys = [...sleepers, newcomer].map(({ key }) => key as NonNullable<WireClient['key']>)
    for (const { pid, secret } of keys) {
      const wrong = Buffer.from(secret.map((byte) => byte ^ 255))
      await cancel(first, pid, wrong)
      // As if it came from a peer, or through the cancel socket already.
      for (const mark of [1, 2]) await cancel(first, pid, Buffer.concat([wrong, Buffer.from([mark])]))
    }
    const stillRun = await world.postgres.activeQueries('SELECT pg_sleep(600)%')
    for (const { pid, secret } of keys) await cancel(first, pid, secret)

    expect(stillRun).toBe(4)
    expect(await Promise.all([...sleepers, newcomer].map(sqlstateOf))).toEqual(['57014', '57014', '57014', '57014'])
    expect(await first.ended()).toBe(0)
  }, 90_000)
})

test('a cancel request finds its client two restarts back, also when the process between has ended', async () => {
  const world = await startRestartable({ drain_rate: 0 })
  const { first, next } = world
  const oldest = await sleeper(first, world)
  const second = await next()
  await first.logged(/the other process serves clients/)
  const middle = await sleeper(first, world)
  await next()
  await second.logged(/the other process serves clients/)

  const { pid, secret } = middle.key as NonNullable<WireClient['key']>
  await cancel(first, pid, secret)
  const ofMiddle = await sqlstateOf(middle)
  const code = await second.ended()
  const { pid: oldPid, secret: oldSecret } = oldest.key as NonNullable<WireClient['key']>
  await cancel(first, oldPid, oldSecret)

  expect(ofMiddle).toBe('57014')
  expect(code).toBe(0)
  expect(await sqlstateOf(oldest)).toBe('57014')
  expect(await first.ended()).toBe(0)
}, 90_000)

test('a cancel socket accepts no login, and only its user may connect to it', async () => {
  const { first, takeover } = await startRestartable({})
  const folder = `${takeover}.d`

  const refused = await connected({ host: folder, port: 1 }).catch((error: { code: string }) => error.code)
  const modes = [folder, join(folder, '.s.PGSQL.1')].map((path) => statSync(path).mode & 0o777)
  await first.stop()

  expect(refused).toBe('57P03')
  expect(modes).toEqual([0o700, 0o600])
  expect(existsSync(join(folder, '.s.PGSQL.1'))).toBe(false)
}, 60_000)

test('a process that cannot open its cancel socket serves clients, and logs the failure', async () => {
  const takeover = join(await tempFolder(), 'takeover')
  mkdirSync(join(`${takeover}.d`, '.s.PGSQL.1'), { recursive: true })
  const { first } = await startRestartable({}, takeover)

  const client = await connect(first)
  const { rows } = await client.query('SELECT 1 AS one')
  await client.end()

  expect(rows).toEqual([{ one: 1 }])
  expect(await first.logged(/cancel requests will not reach/)).toContain('.s.PGSQL.1')
}, 60_000)

test('with another unix_socket_dir the next process opens its own, and takes the former file away', async () => {
  const [dir, other] = [await tempFolder(), await tempFolder()]
  const { first, next, control, postgres } = await startRestartable({ unix_socket_dir: dir })
  const file = `.s.PGSQL.${first.port}`
  const before = existsSync(join(dir, file))
  await control.apply(fleet, documentOf({ unix_socket_dir: other })(postgres))

  const second = await next()
  await first.ended()
  const client = await connected({ host: other, port: first.port })
  const { rows } = await client.query('SELECT 1 AS one')
  await client.end()

  expect(before).toBe(true)
  expect(rows).toEqual([{ one: 1 }])
  expect(existsSync(join(dir, file))).toBe(false)
  expect(await second.stop()).toBe(0)
}, 60_000)

interface Lost {
  readonly id: string
  readonly pool: string
  readonly backend_pid: number
  readonly cause: string
}

async function lostServers({ control }: World): Promise<Lost[]> {
  const { body } = await control.call('GET', `/v1/fleets/${fleet}/disconnects?limit=500`)
  return (body as { disconnects: Lost[] }).disconnects
}

/** A session-mode client, and the process id of its server. */
async function sessionOf(proxy: Place): Promise<{ client: Client; pid: number }> {
  const client = await connect(proxy, { database: 'sessions' })
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  return { client, pid: rows[0]?.pid ?? 0 }
}

test('what the process that drains loses reaches control, each server once', async () => {
  const world = await startRestartable({ drain_rate: 0 })
  const { first, next, postgres, control } = world
  const [one, two] = [await sessionOf(first), await sessionOf(first)]
  await next()
  await first.logged(/the other process serves clients/)

  await postgres.sql('SELECT pg_terminate_backend($1)', [one.pid])
  await until(async () => (await lostServers(world)).some(({ backend_pid }) => backend_pid === one.pid))
  // It is lost while control takes no reports, and reported when control does again.
  await control.kill9()
  await postgres.sql('SELECT pg_terminate_backend($1)', [two.pid])
  const code = await first.ended()
  await control.start()
  await until(async () => (await lostServers(world)).some(({ backend_pid }) => backend_pid === two.pid))
  await until(() => readdirSync(join(first.state as string, 'drains')).length === 0)

  const lost = await lostServers(world)
  expect(code).toBe(0)
  expect(lost.map(({ backend_pid, pool, cause }) => ({ backend_pid, pool, cause }))).toEqual([
    { backend_pid: two.pid, pool: 'sessions', cause: 'terminated' },
    { backend_pid: one.pid, pool: 'sessions', cause: 'terminated' },
  ])
}, 90_000)

test('and it reaches control by the next process when the one that took over was killed', async () => {
  const world = await startRestartable({ drain_rate: 0 })
  const { first, next, postgres } = world
  const [one, two] = [await sessionOf(first), await sessionOf(first)]
  const second = await next()
  await first.logged(/the other process serves clients/)
  await postgres.sql('SELECT pg_terminate_backend($1)', [one.pid])
  await until(async () => (await lostServers(world)).length === 1)

  await second.kill9()
  await postgres.sql('SELECT pg_terminate_backend($1)', [two.pid])
  const third = await next()
  await until(async () => (await lostServers(world)).length === 2)
  await first.ended()
  await until(() => readdirSync(join(first.state as string, 'drains')).length === 0)

  expect((await lostServers(world)).map(({ backend_pid }) => backend_pid)).toEqual([two.pid, one.pid])
  expect(await third.stop()).toBe(0)
}, 90_000)

test('with drain_rate 0 no client is disconnected, and the former process ends with its last client', async () => {
  const { first, next } = await startRestartable({ drain_rate: 0 })
  const idle = await connect(first)
  const session = await connect(first, { database: 'sessions' })

  await next()
  await first.logged(/the other process serves clients/)
  const answer = await idle.query('SELECT 1 AS one')
  await idle.end()
  const sessionAnswer = await session.query('SELECT 2 AS two')
  const stillRuns = first.pid !== undefined
  await session.end()
  const code = await first.ended()

  expect(answer.rows).toEqual([{ one: 1 }])
  expect(sessionAnswer.rows).toEqual([{ two: 2 }])
  expect(stillRuns).toBe(true)
  expect(code).toBe(0)
}, 60_000)

test('a session-mode client stays until it leaves; drain_timeout bounds that', async () => {
  const { first, next } = await startRestartable({ drain_rate: 100, drain_timeout: '300ms', shutdown_timeout: '200ms' })
  const session = await connect(first, { database: 'sessions' })
  const errors: string[] = []
  session.on('error', (error: Error & { code?: string }) => errors.push(error.code ?? error.message))
  await session.query('BEGIN')

  await next()
  const code = await first.ended()

  expect(code).toBe(0)
  expect(errors[0]).toBe('57P01')
}, 60_000)

test('a process that fails when it has taken over leaves everything to the one that runs', async () => {
  const dir = await tempFolder()
  const { first, next, control, postgres } = await startRestartable({ unix_socket_dir: dir })
  const client = await connect(first)
  const operator = await openConsole(first)

  await expect(next({ state: '/dev/null/state' })).rejects.toThrow('/dev/null/state')
  await until(async () => (await fetch(`${first.httpUrl}/readyz`).catch(() => null))?.status === 200)
  const version = await control.apply(fleet, documentOf({ client_login_timeout: '59s' })(postgres))
  await untilRuns(operator, version)
  const answer = await client.query('SELECT 1 AS one')
  await (await connected({ host: dir, port: first.port })).end()
  const second = await next()
  await second.logged(/took over the listener of the running process/)

  expect(answer.rows).toEqual([{ one: 1 }])
  expect(await first.logged(/this one continues/)).toContain('error')
  await Promise.all([client.end(), operator.end()])
  expect(await first.ended()).toBe(0)
}, 90_000)
