import { expect, test } from 'vitest'
import { checkConsistency } from '../../../shared/config/consistency.ts'
import { noSecrets, readDocument } from '../../../shared/config/document.ts'
import { effectivePools } from '../../../shared/config/effective.ts'
import { Problems } from '../../../shared/config/problems.ts'

const usersCount = 100

/** A document whose sections count how often one key of each is read. */
function counting() {
  const names = Array.from({ length: usersCount }, (_, index) => `user${index}`)
  const users = Object.fromEntries(names.map((name) => [name, { password: 'x', pool_size: 5 }]))
  const document = readDocument(
    { general: {}, defaults: {}, pools: { app: { servers: [{ host: 'db' }], users } } },
    noSecrets,
  )
  const reads = { general: 0, defaults: 0, pool: 0, users: 0 }
  const count = (section: object, key: string, value: string | number, name: keyof typeof reads): void => {
    const get = (): string | number => {
      reads[name] += 1
      return value
    }
    Object.defineProperty(section, key, { enumerable: true, get })
  }
  count(document.general, 'client_plain_allowed', 'off', 'general')
  count(document.defaults, 'query_timeout', '1m', 'defaults')
  count(document.pools['app']!, 'idle_timeout', '1m', 'pool')
  for (const name of names) count(document.pools['app']!.users[name]!, 'pool_size', 5, 'users')
  return { document, reads }
}

const once = { general: 1, defaults: 1, pool: 1, users: usersCount }

test('checking a document resolves what users inherit once, and each user once', () => {
  const { document, reads } = counting()
  const problems = new Problems()

  checkConsistency(document, noSecrets, problems)

  expect(() => problems.throwIfAny()).not.toThrow()
  expect(reads).toEqual(once)
})

test('the effective configurations resolve what users inherit once, and each user once', () => {
  const { document, reads } = counting()

  const pools = effectivePools(document)

  expect(reads).toEqual({ ...once, general: 0 })
  expect(pools[0]).toMatchObject({ query_timeout: '1m', idle_timeout: '1m', pool_size: 5 })
})
