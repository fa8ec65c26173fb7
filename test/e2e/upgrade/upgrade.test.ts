/** Release 0.1.0 and this one, control and proxies replaced in any order, each on what the other has left. */
import { execFile } from 'node:child_process'
import { readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import type { Client } from 'pg'
import type { ProxyDetail, Written } from '../../../shared/api.ts'
import { bodyFormatHeader } from '../../../shared/wire.ts'
import type { Manifest } from '../../../shared/wire.ts'
import { flotilla } from '../../support/command-line.ts'
import { until } from '../../support/engine.ts'
import { formerRelease, hasFormerRelease } from '../../support/former-release.ts'
import type { Postgres } from '../../support/postgres.ts'
import type { ControlProcess, ProxyProcess } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { backends, common, fleet, Load, openConsole, poolVersion, startWorld, untilRuns } from '../fleet/world.ts'

const users = ['app', 'web']

function document(postgres: Postgres, app: object = {}, web: object = {}): object {
  const servers = [{ host: '127.0.0.1', port: postgres.port, role: 'primary' }]
  return {
    ...common,
    pools: {
      app: {
        database: 'postgres',
        servers,
        min_pool_size: 2,
        users: { app: { password: 'app', ...app }, web: { password: 'web', ...web } },
      },
    },
  }
}

/** Control and proxies of the given releases, with two pools whose servers are open. */
async function worldOf(releases: { readonly control?: string; readonly proxies: readonly (string | undefined)[] }) {
  const { control: ofControl, proxies: ofProxies } = releases
  const world = await startWorld({
    postgres: { sql: users.map((user) => `CREATE ROLE ${user} LOGIN`) },
    control: ofControl === undefined ? {} : { release: ofControl },
    proxies: ofProxies.map((release, index) => ({
      id: `proxy-${index + 1}`,
      ...(release === undefined ? {} : { release }),
    })),
    document,
  })
  const servers = 2 * users.length * ofProxies.length
  await until(async () => (await backends(world.postgres, users)).length === servers)
  return { ...world, proxy: world.proxies[0] as ProxyProcess, servers }
}

async function stateOf(control: ControlProcess, id = 'proxy-1'): Promise<ProxyDetail> {
  return (await control.call('GET', `/v1/fleets/${fleet}/proxies/${id}`)).body as ProxyDetail
}

async function untilInSync(control: ControlProcess, version: number, id = 'proxy-1'): Promise<ProxyDetail> {
  let last: ProxyDetail | undefined
  await until(
    async () => {
      last = await stateOf(control, id)
      return last.state === 'in_sync' && last.applied?.version === version && Date.parse(last.reported_at!) > 0
    },
    () => JSON.stringify(last),
  )
  return last!
}

/** What a plan says of the configuration that is current. */
async function planOfNothing(control: ControlProcess): Promise<Written> {
  const { body } = await control.call('GET', `/v1/fleets/${fleet}/config`)
  return (await control.call('PUT', `/v1/fleets/${fleet}/config?dry_run=true`, body)).body as Written
}

const allKept = {
  created: false,
  plan: {
    added: [],
    rebuilt: [],
    retuned: [],
    removed: [],
    general: [],
    secrets: [],
    kept: expect.any(Array) as unknown,
  },
}

async function replace(one: ControlProcess | ProxyProcess, release: string | undefined): Promise<void> {
  await one.stop()
  one.release = release
  await one.start()
}

/** Pids of servers, which change when one is opened anew. */
async function pids(postgres: Postgres, of = users): Promise<number[]> {
  return (await backends(postgres, of)).map(({ pid }) => pid)
}

/** Hashes of the current version in a format, by user. */
async function manifestHashes(control: ControlProcess, token: string, format: number): Promise<string[]> {
  const response = await fetch(`${control.url}/v1/fleets/${fleet}/manifest`, {
    headers: { authorization: `Bearer ${token}`, [bodyFormatHeader]: String(format) },
  })
  const { pools } = (await response.json()) as Manifest
  return users.map((user) => pools.find((pool) => pool.user === user)!.hash)
}

/** Waits until a proxy reports that it runs these hashes, and wants no others. */
async function untilReports(control: ControlProcess, hashes: readonly string[], id = 'proxy-1'): Promise<void> {
  let last: ProxyDetail | undefined
  await until(
    async () => {
      last = await stateOf(control, id)
      const reported = users.map((user) => last?.pools.find((pool) => pool.user === user))
      return reported.every((pool, index) => pool?.hash === hashes[index] && pool?.desired_hash === hashes[index])
    },
    () => JSON.stringify([hashes, last]),
  )
}

/** What a proxy logged of the versions that it applied. */
function applied(proxy: ProxyProcess): Record<string, unknown>[] {
  const lines = proxy.log.filter((line) => line.includes('"message":"version applied"'))
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>)
}

async function hashesAt(operator: Client): Promise<string[]> {
  return await Promise.all(users.map(async (user) => (await poolVersion(operator, user)).running_hash))
}

test.skipIf(!hasFormerRelease)(
  'control first: proxies of release 0.1.0 keep every server and take new versions, then are replaced one by one',
  async () => {
    const former = await formerRelease()
    const { control, postgres, token, ...rest } = await worldOf({ control: former, proxies: [former, former] })
    const { proxies, proxy, servers } = rest
    const before = await pids(postgres)
    const load = await Load.start(proxies, { clients: 4 })
    const operator = await openConsole(proxy)
    const hashes = await hashesAt(operator)

    // Control is replaced.
    await replace(control, undefined)
    await until(async () => (await stateOf(control)).state === 'in_sync')
    const planned = await planOfNothing(control)

    expect(planned).toMatchObject({ version: 1, ...allKept })
    expect(planned.plan.kept).toHaveLength(users.length)
    expect(await hashesAt(operator)).toEqual(hashes)

    // A new version is understood by proxies of 0.1.0, and changes what it names alone.
    const second = await control.apply(fleet, document(postgres, {}, { pool_size: 9, min_pool_size: 2 }))
    await untilRuns(operator, second, 'web')
    await Promise.all(proxies.map((_, index) => untilInSync(control, second, `proxy-${index + 1}`)))
    const [app, web] = await hashesAt(operator)
    expect(app).toBe(hashes[0])
    expect(web).not.toBe(hashes[1])
    await load.stop()
    expect(load.failures).toEqual([])
    // Clients may have needed more of them; none was closed.
    expect(await pids(postgres)).toEqual(expect.arrayContaining(before))

    // A proxy is replaced, while control is away: it starts from what 0.1.0 has left on disk.
    await control.stop()
    await replace(proxy, undefined)
    await until(async () => (await pids(postgres)).length === servers)
    const restarted = await pids(postgres)
    const again = await openConsole(proxy)
    expect(await poolVersion(again, 'web')).toMatchObject({ running_version: String(second), state: 'in_sync' })

    // Control is back, and the two agree on the compact format: the same version under other hashes.
    await control.start()
    await untilReports(control, await manifestHashes(control, token, 2))
    expect(await hashesAt(again)).not.toContain(app)
    expect(await poolVersion(again, 'web')).toMatchObject({ running_version: String(second), state: 'in_sync' })
    expect(await pids(postgres)).toEqual(restarted)
    expect(applied(proxy).at(-1)).toMatchObject({ version: second, kept: users.length, rebuilt: 0, retuned: 0 })

    // The other one still runs 0.1.0; both take the next version.
    const third = await control.apply(fleet, document(postgres, { pool_size: 8 }))
    await untilInSync(control, third)
    await untilInSync(control, third, 'proxy-2')
    expect(await pids(postgres)).toEqual(restarted)
  },
  120_000,
)

test.skipIf(!hasFormerRelease)(
  'proxies first: a proxy of this release obeys control of release 0.1.0, and keeps every server when that is replaced',
  async () => {
    const former = await formerRelease()
    const { control, postgres, token, ...rest } = await worldOf({ control: former, proxies: [former] })
    const { proxy, servers } = rest

    // The proxy is replaced.
    await replace(proxy, undefined)
    await until(async () => (await pids(postgres)).length === servers)
    const before = await pids(postgres)
    const operator = await openConsole(proxy)
    await untilInSync(control, 1)
    await untilReports(control, await manifestHashes(control, token, 1))
    const second = await control.apply(fleet, document(postgres, { pool_size: 8 }))
    await untilRuns(operator, second)
    await untilInSync(control, second)
    expect(await pids(postgres)).toEqual(before)

    // Control is replaced while it runs, and while clients work.
    const load = await Load.start([proxy], { clients: 4 })
    await replace(control, undefined)
    await untilReports(control, await manifestHashes(control, token, 2))
    expect(await planOfNothing(control)).toMatchObject({ version: second, ...allKept })
    expect(applied(proxy).at(-1)).toMatchObject({ version: second, kept: users.length, rebuilt: 0, retuned: 0 })
    const third = await control.apply(fleet, document(postgres, { pool_size: 8 }, { pool_size: 3 }))
    await untilInSync(control, third)
    expect(applied(proxy).at(-1)).toMatchObject({ version: third, kept: 1, rebuilt: 0, retuned: 1 })
    await load.stop()
    expect(load.failures).toEqual([])
    expect(load.transactions).toBeGreaterThan(0)
    // Clients may have needed more of them; none was closed.
    expect(await pids(postgres)).toEqual(expect.arrayContaining(before))
  },
  120_000,
)

test.skipIf(!hasFormerRelease)(
  'a document with a key that release 0.1.0 does not know is planned with that, and refused by its proxies alone',
  async () => {
    const former = await formerRelease()
    const { control, postgres } = await worldOf({ proxies: [former, undefined] })
    const old = { proxy: 'proxy-1', agent_version: '0.1.0', keys: ['pools.app.users.web.isolation'] }

    const strict = document(postgres, {}, { isolation: 'strict' })
    const planned = await control.call('PUT', `/v1/fleets/${fleet}/config?dry_run=true`, strict)
    const version = await control.apply(fleet, strict)
    await untilInSync(control, version, 'proxy-2')
    await until(async () => (await stateOf(control)).state === 'failed')
    const refused = await stateOf(control)

    expect(planned.body).toMatchObject({ unsupported: [old] })
    expect(refused).toMatchObject({ applied: { version: 1 }, error: { code: 'unsupported_body', user: 'web' } })
    expect(refused.error?.message).toContain('isolation')
    // Without the key, it follows again. Set to its default, the key is in no body.
    const next = await control.apply(fleet, document(postgres, {}, { isolation: 'standard', pool_size: 9 }))
    await untilInSync(control, next)
    await untilInSync(control, next, 'proxy-2')
  },
  120_000,
)

test.skipIf(!hasFormerRelease)(
  'back again: a proxy of release 0.1.0 starts from the state of this one without control, and control from its copy',
  async () => {
    const former = await formerRelease()
    const { control, postgres, token, ...rest } = await worldOf({ control: former, proxies: [undefined] })
    const { proxy, servers } = rest
    await replace(control, undefined)
    await untilReports(control, await manifestHashes(control, token, 2))
    const second = await control.apply(fleet, document(postgres, { pool_size: 8 }))
    await untilInSync(control, second)
    const full = await manifestHashes(control, token, 1)

    // The proxy goes back, and control is away: full bodies are on disk.
    await control.stop()
    await replace(proxy, former)
    await until(async () => (await pids(postgres)).length === servers)
    const before = await pids(postgres)
    const operator = await openConsole(proxy)
    expect(await poolVersion(operator)).toMatchObject({ running_version: String(second), state: 'in_sync' })
    expect(await hashesAt(operator)).toEqual(full)

    // Control goes back to the copy that was made before its store was migrated: it is behind its proxy.
    const copies = (await readdir(control.folder)).filter((name) => name.startsWith('control.db.before-'))
    expect(copies).toHaveLength(1)
    for (const name of ['control.db-wal', 'control.db-shm']) await rm(join(control.folder, name), { force: true })
    await rename(join(control.folder, copies[0]!), join(control.folder, 'control.db'))
    control.release = former
    await control.start()
    await until(async () => (await stateOf(control)).error?.code === 'older_position')
    expect(await pids(postgres)).toEqual(before)

    // As after any restore of a backup: its epoch is raised, and the two agree.
    await control.stop()
    const program = join(former, 'cli/main.ts')
    await promisify(execFile)(process.execPath, [program, 'epoch', 'raise', '--data', control.folder])
    await control.start()
    expect((await untilInSync(control, 1)).applied).toEqual({ epoch: 2, version: 1 })
    expect(await pids(postgres)).toEqual(before)
  },
  120_000,
)

/** What `flotilla` of a release says to everyday commands. */
async function everyday(control: ControlProcess, postgres: Postgres, release?: string) {
  const file = join(await tempFolder(), 'fleet.json')
  await writeFile(file, JSON.stringify(document(postgres, { pool_size: 8 })))
  const environment = { FLOTILLA_URL: control.url, FLOTILLA_TOKEN: control.token, FLOTILLA_FLEET: fleet }
  const reads = ['fleet list', 'show 2', 'versions', 'diff 1 2', 'proxies', 'disconnects', 'secret list', 'token list']
  const lines = [`plan -f ${file}`, `apply -f ${file}`, ...reads, `apply -f ${file} --wait`, 'rollback 1', 'reload']
  const said = []
  for (const line of lines) {
    said.push({ line, ...(await flotilla(line.split(' '), { environment, ...(release ? { release } : {}) })) })
  }
  return said
}

test.skipIf(!hasFormerRelease)(
  'the command line of one release works with control of the other',
  async () => {
    const former = await formerRelease()
    const young = await worldOf({ control: former, proxies: [former] })
    const old = await worldOf({ proxies: [undefined] })

    const said = [
      ...(await everyday(young.control, young.postgres)),
      ...(await everyday(old.control, old.postgres, former)),
    ]

    expect(said.filter(({ code }) => code !== 0)).toEqual([])
    expect(said.filter(({ line }) => line === 'proxies').map(({ stdout }) => stdout)).toEqual([
      expect.stringContaining('proxy-1'),
      expect.stringContaining('proxy-1'),
    ])
  },
  120_000,
)
