import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { StateFolder, type LastKnownGood } from '../../../proxy/agent/state.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { tempFolder } from '../../support/temp-folder.ts'

const good: LastKnownGood = {
  etag: '"e1.v3"',
  manifest: { epoch: 1, version: 3, pools: [], general: { settings: { poll_interval: '5s' }, console_users: [] } },
  bodies: { abc: { pool: 'app' } },
  secrets: { 'web@1': 'a secret word' },
  addresses: { 'db.internal': ['10.0.0.1'] },
}

async function newFolder() {
  const path = join(await tempFolder(), 'state')
  const warnings: string[] = []
  const folder = await StateFolder.open(path, (_, message) => warnings.push(message))
  atEndOfFile(async () => await folder.close().catch(() => undefined))
  return { path, folder, warnings, file: join(path, 'last-known-good.json') }
}

test('what was saved is read back whole', async () => {
  const { folder, warnings } = await newFolder()

  await folder.saveLastKnownGood('demo', 'token', good)

  expect(await folder.readLastKnownGood('demo', 'token')).toEqual(good)
  expect(warnings).toEqual([])
})

test('the folder and its files are for their owner alone', async () => {
  const { path, file, folder } = await newFolder()
  await folder.saveLastKnownGood('demo', 'token', good)

  expect((await stat(path)).mode & 0o777).toBe(0o700)
  expect((await stat(file)).mode & 0o777).toBe(0o600)
})

test('secrets do not open with another token, and everything else does', async () => {
  const { folder, warnings } = await newFolder()
  await folder.saveLastKnownGood('demo', 'token', good)

  expect(await folder.readLastKnownGood('demo', 'new token')).toEqual({ ...good, secrets: {} })
  expect(warnings).toEqual(['stored secrets were sealed with another token; they must be fetched again'])
})

test('a sealed secret that was changed or put under another name does not open', async () => {
  const { folder, file } = await newFolder()
  await folder.saveLastKnownGood('demo', 'token', { ...good, secrets: { 'a@1': 'one', 'b@1': 'two' } })
  const content = JSON.parse(await readFile(file, 'utf8')) as { sealed_secrets: Record<string, string> }
  const { 'a@1': a, 'b@1': b } = content.sealed_secrets
  await writeFile(file, JSON.stringify({ ...content, sealed_secrets: { 'a@1': b, 'b@1': `AAAA${a?.slice(4)}` } }))

  expect((await folder.readLastKnownGood('demo', 'token'))?.secrets).toEqual({})
})

test.each([
  ['torn', '{"format":1,"fleet":"de', 'is damaged'],
  ['empty', '', 'is damaged'],
  ['of another kind', '[]', 'is damaged'],
  ['of another format', '{"format":2}', 'is of a later release'],
])('a file that is %s is passed over with one warning', async (_, text, fault) => {
  const { folder, file, warnings } = await newFolder()
  await writeFile(file, text)

  expect(await folder.readLastKnownGood('demo', 'token')).toBeUndefined()
  expect(warnings).toEqual([`a file in the state directory ${fault}; continuing without it`])
})

test('the last-known-good of another fleet is passed over', async () => {
  const { folder, warnings } = await newFolder()
  await folder.saveLastKnownGood('other', 'token', good)

  expect(await folder.readLastKnownGood('demo', 'token')).toBeUndefined()
  expect(warnings).toEqual(['a file in the state directory belongs to the fleet other; continuing without it'])
})

test('where the newer generation cannot be read, the version before it is used, and stays in place', async () => {
  const { folder, file, warnings } = await newFolder()
  const next = { ...good, manifest: { ...good.manifest, version: 4 } }
  await folder.saveLastKnownGood('demo', 'token', good)
  await folder.saveLastKnownGood('demo', 'token', next)
  expect(await folder.readLastKnownGood('demo', 'token')).toEqual(next)
  await writeFile(file, '{"format":1,')

  expect(await folder.readLastKnownGood('demo', 'token')).toEqual(good)
  expect(warnings).toEqual(['a file in the state directory is damaged; continuing without it'])
  // What is damaged replaces no version that can be read.
  await folder.saveLastKnownGood('demo', 'token', next)
  await writeFile(file, '')
  expect(await folder.readLastKnownGood('demo', 'token')).toEqual(good)
})

test('the same version saved again displaces no other', async () => {
  const { folder, file } = await newFolder()
  const next = { ...good, manifest: { ...good.manifest, version: 4 } }
  await folder.saveLastKnownGood('demo', 'token', good)
  await folder.saveLastKnownGood('demo', 'token', next)
  await folder.saveLastKnownGood('demo', 'token', { ...next, addresses: {} })
  await rm(file)

  expect(await folder.readLastKnownGood('demo', 'token')).toEqual(good)
})

test('beside the full manifest, the one that control has sent is kept', async () => {
  const { folder } = await newFolder()
  const offered = { ...good.manifest, body_format: 2, general: { settings: {}, console_users: [] } }

  await folder.saveLastKnownGood('demo', 'token', { ...good, offered })

  expect(await folder.readLastKnownGood('demo', 'token')).toEqual({ ...good, offered })
})

test('a new folder has no last-known-good and nothing to warn about', async () => {
  const { folder, warnings } = await newFolder()

  expect(await folder.readLastKnownGood('demo', 'token')).toBeUndefined()
  expect(warnings).toEqual([])
})

test('the name of a proxy is made once', async () => {
  const { folder } = await newFolder()

  expect(await folder.proxyId(() => 'proxy-1')).toBe('proxy-1')
  expect(await folder.proxyId(() => 'proxy-2')).toBe('proxy-1')
})

test('a name that is not one is replaced', async () => {
  const { folder, path } = await newFolder()
  await writeFile(join(path, 'proxy-id'), '../../etc\n')

  expect(await folder.proxyId(() => 'proxy-2')).toBe('proxy-2')
})

test('a folder in use is refused until its user is gone', async () => {
  const { folder, path } = await newFolder()

  await expect(StateFolder.open(path, () => undefined)).rejects.toThrow(`${path} is in use by another proxy`)
  await folder.close()

  const again = await StateFolder.open(path, () => undefined)
  await again.close()
})

test('a folder that cannot be made is refused with its path', async () => {
  const file = join(await tempFolder(), 'file')
  await writeFile(file, '')

  await expect(StateFolder.open(join(file, 'state'), () => undefined)).rejects.toThrow(
    `could not use the state directory ${file}/state`,
  )
})

test('the mock key is made once and kept, for the owner alone, and one that is damaged is made anew', async () => {
  const { path, folder } = await newFolder()
  const file = join(path, 'mock-key')
  const keys = [1, 2, 3].map((byte) => Buffer.alloc(32, byte)) as [Buffer, Buffer, Buffer]

  const made = await folder.mockKey(() => keys[0])
  const kept = await folder.mockKey(() => keys[1])
  const { mode } = await stat(file)
  await folder.saveMockKey(keys[1])
  const told = await folder.mockKey(() => keys[2])
  await writeFile(file, 'c2hvcnQ=')
  const anew = await folder.mockKey(() => keys[2])

  expect([made, kept, told, anew].map((key) => key[0])).toEqual([1, 1, 2, 3])
  expect(mode & 0o777).toBe(0o600)
})
