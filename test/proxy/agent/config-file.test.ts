import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { tempFolder } from '../../support/temp-folder.ts'
import { ScriptedAgent } from './scripted-agent.ts'

const toml = (poolSize: number, host = '127.0.0.1', general = ''): string => `
  [general]
  ${general}
  [pools.app]
  pool_size = ${poolSize}
  servers = [{ host = "${host}", port = 5432 }]
  [pools.app.users.web]
  password = "a secret word"
`

async function newProxy(text: string) {
  const path = join(await tempFolder(), 'flotilla.toml')
  await writeFile(path, text)
  const proxy = new ScriptedAgent({ source: { kind: 'file', path } })
  const reload = async (changed: string): Promise<string | null> => {
    await writeFile(path, changed)
    return await proxy.agent.reload()
  }
  return { path, proxy, reload }
}

test('a proxy runs from a file alone and is ready at once', async () => {
  const { proxy } = await newProxy(toml(5))

  await proxy.agent.start()

  expect(proxy.agent.notReady).toBeNull()
  const { spec, force } = await proxy.engine.gets('apply')
  expect(force).toBe(true)
  expect(spec).toMatchObject({
    position: { epoch: 1, version: 1 },
    pools: [{ database: 'app', user: 'web', serverPassword: 'a secret word', settings: { poolSize: 5 } }],
  })
})

test('the version counts the contents that came to run', async () => {
  const { proxy, reload } = await newProxy(toml(5))
  await proxy.agent.start()

  expect(await reload(toml(5))).toBeNull()
  expect(await reload(toml(6))).toBeNull()
  expect(await reload(toml(5))).toBeNull()

  await proxy.applies(3)
  expect(proxy.logged('version applied').map(({ fields }) => fields['version'])).toEqual([1, 2, 3])
})

test('a change of the general settings alone is applied too', async () => {
  const { proxy, reload } = await newProxy(toml(5))
  await proxy.agent.start()

  expect(await reload(toml(5, '127.0.0.1', 'max_client_connections = 7'))).toBeNull()

  const { spec } = await proxy.engine.gets('apply', (message) => message.spec.position.version === 2)
  expect(spec.general.maxClientConnections).toBe(7)
})

test('a bad file leaves the old one running and says path and reason', async () => {
  const { proxy, reload, path } = await newProxy(toml(5))
  await proxy.agent.start()

  const error = await reload(toml(0))
  const syntax = await reload('[pools.app\npassword = "a secret word"')

  expect(error).toContain(`${path}: `)
  expect(error).toContain('pools.app.pool_size: must be between 1 and 100000; got 0')
  expect(syntax).toContain('line 1, column')
  expect(syntax).not.toContain('a secret word')
  expect(proxy.agent.notReady).toBeNull()
  expect(await reload(toml(5))).toBeNull()
})

test('a host that cannot be resolved leaves the old one running', async () => {
  const { proxy, reload } = await newProxy(toml(5))
  await proxy.agent.start()

  expect(await reload(toml(5, 'db.internal'))).toContain('(unresolvable_host)')
  expect(proxy.logged('version applied')).toHaveLength(1)
})

test.each([
  ['is empty', ''],
  ['is not valid', 'pool_size = 1'],
  ['has no pools', '[general]'],
])('a proxy whose file %s does not start, and says why', async (_, text) => {
  const { proxy, path } = await newProxy(text)

  await expect(proxy.agent.start()).rejects.toThrow(path)
})

test('no literal password is in the log', async () => {
  const { proxy, reload } = await newProxy(toml(5))
  await proxy.agent.start()
  await reload(toml(6))

  expect(JSON.stringify(proxy.log)).not.toContain('a secret word')
})

const twoPools = `${toml(5)}
  [pools.other]
  servers = [{ host = "db.internal", port = 5432 }]
  [pools.other.users.web]
  password = { env = "OTHER_PASSWORD" }
`

test('a pool that cannot be prepared keeps a proxy that starts from a file from serving no other', async () => {
  const { proxy } = await newProxy(twoPools)

  await proxy.agent.start()

  expect(proxy.agent.notReady).toBeNull()
  const { spec } = await proxy.engine.gets('apply')
  expect(spec.pools.map(({ database }) => database)).toEqual(['app'])
  expect(spec.unprepared).toEqual([{ database: 'other', user: 'web', code: 'unresolvable_host' }])
  expect(proxy.logged('pools could not be prepared, and will be tried again; the others are served')).toMatchObject([
    { fields: { pool: 'other', user: 'web', code: 'unresolvable_host' } },
  ])
})

test('a version with such a pool is refused by a proxy that serves all pools', async () => {
  const { proxy, reload } = await newProxy(toml(5))
  await proxy.agent.start()

  expect(await reload(twoPools)).toContain('(unresolvable_host)')
  expect(proxy.engine.got('apply')).toHaveLength(1)
})
