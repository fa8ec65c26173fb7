import { randomBytes } from 'node:crypto'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { createSealing } from '../../../control/domain/sealing.ts'

const sealing = createSealing(Buffer.alloc(32, 1), randomBytes)
const other = createSealing(Buffer.alloc(32, 2), randomBytes)
const place = { fleet: 'demo', name: 'web', version: 1 }

test('what was sealed opens to the same text', async () => {
  await fc.assert(
    fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 200 }), async (value) => {
      expect(await sealing.open(await sealing.seal(value, place), place)).toBe(value)
    }),
  )
})

test('a sealed value opens neither with another key, nor at another place, nor when a bit is changed', async () => {
  const sealed = await sealing.seal('geheim', place)
  const bytes = Buffer.from(sealed.slice(3), 'base64')
  bytes[15]! ^= 1

  await expect(other.open(sealed, place)).rejects.toMatchObject({ name: 'OperationError' })
  await expect(sealing.open(sealed, { ...place, fleet: 'other' })).rejects.toMatchObject({ name: 'OperationError' })
  await expect(sealing.open(sealed, { ...place, name: 'other' })).rejects.toMatchObject({ name: 'OperationError' })
  await expect(sealing.open(sealed, { ...place, version: 2 })).rejects.toMatchObject({ name: 'OperationError' })
  await expect(sealing.open(`v1.${bytes.toString('base64')}`, place)).rejects.toMatchObject({ name: 'OperationError' })
  await expect(sealing.open(sealed.slice(3), place)).rejects.toThrow('unknown form')
})

test('the same value is sealed differently each time', async () => {
  expect(await sealing.seal('geheim', place)).not.toBe(await sealing.seal('geheim', place))
})

test('a digest is equal for equal values of one secret alone', () => {
  const digest = sealing.digest('demo', 'web', 'geheim')

  expect(sealing.digest('demo', 'web', 'geheim')).toBe(digest)
  const others = [
    sealing.digest('demo', 'web', 'geheim2'),
    sealing.digest('demo', 'other', 'geheim'),
    sealing.digest('other', 'web', 'geheim'),
    other.digest('demo', 'web', 'geheim'),
  ]
  expect(others).not.toContain(digest)
})

test('each run of each proxy has its own hint secret of 32 bytes', () => {
  const secrets = [
    sealing.hintSecret('demo', 'p1', 'boot-1'),
    sealing.hintSecret('demo', 'p1', 'boot-2'),
    sealing.hintSecret('demo', 'p2', 'boot-1'),
    sealing.hintSecret('other', 'p1', 'boot-1'),
  ]

  expect(new Set(secrets).size).toBe(4)
  expect(secrets.map((secret) => Buffer.from(secret.slice('whsec_'.length), 'base64').length)).toEqual([32, 32, 32, 32])
})

test('each fleet has its own mock key of 32 bytes, the same each time', () => {
  const keys = [sealing.mockKey('demo'), sealing.mockKey('other'), other.mockKey('demo')]

  expect(new Set(keys).size).toBe(3)
  expect(keys.map((key) => Buffer.from(key, 'base64').length)).toEqual([32, 32, 32])
  expect(sealing.mockKey('demo')).toBe(keys[0])
})

test('a key of another length is refused', () => {
  expect(() => createSealing(Buffer.alloc(16), randomBytes)).toThrow(RangeError)
})
