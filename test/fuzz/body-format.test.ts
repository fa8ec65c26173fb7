/** For any valid document: what proxies get in either format is the same configuration, and hashes tell contents apart. */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { bodyIn, effectiveOf, generalIn, generalOf } from '../../shared/config/body-format.ts'
import { noSecrets, readDocument } from '../../shared/config/document.ts'
import { effectiveGeneral, effectivePools } from '../../shared/config/effective.ts'
import type { EffectivePool } from '../../shared/config/effective.ts'
import { bodyFormats } from '../../shared/config/formats.ts'
import { poolKeys } from '../../shared/config/keys.ts'
import type { KeySpec } from '../../shared/config/keys.ts'
import type { FleetDocument } from '../../shared/config/sections.ts'
import { canonicalJson, poolHashes } from '../../shared/hash.ts'
import { tree } from './arbitrary-document.ts'

/** Calls `check` with valid documents. */
function forDocuments(check: (document: FleetDocument) => void): void {
  let valid = 0
  fc.assert(
    fc.property(tree, (given) => {
      const document = documentOf(given)
      if (document === undefined) return
      valid += 1
      check(document)
    }),
    { numRuns: 200 },
  )
  // Enough of them for the check to be worth something.
  expect(valid).toBeGreaterThan(40)
}

function documentOf(given: unknown): FleetDocument | undefined {
  try {
    return readDocument(given, noSecrets)
  } catch {
    // What is refused, and why, is another test's matter.
    return undefined
  }
}

/** The table with one more key, as the next release may have. */
const keysOfNextRelease: Record<string, KeySpec> = {
  ...poolKeys,
  key_of_the_next_release: { type: 'duration', default: '60s', min: '0ms', max: '1h', class: 'connect', help: '' },
}

function withNextKey(pool: EffectivePool, value: string): EffectivePool {
  return Object.assign({}, pool, { key_of_the_next_release: value })
}

test('a body is read as the effective configuration it was made of, in every format', () => {
  forDocuments((document) => {
    const general = effectiveGeneral(document)
    for (const format of bodyFormats) {
      expect(generalOf(generalIn(format, general).settings)).toEqual(general.settings)
      for (const pool of effectivePools(document, format)) expect(effectiveOf(bodyIn(format, pool))).toEqual(pool)
    }
  })
})

test('hashes are equal exactly where the effective configurations are, in every format', () => {
  const seen = new Map<string, string>()
  forDocuments((document) => {
    for (const pool of effectivePools(document)) {
      const content = canonicalJson(pool)
      for (const format of bodyFormats) {
        const { hash } = poolHashes(pool, format)
        expect(seen.get(hash) ?? content).toBe(content)
        expect(seen.get(`${format} ${content}`) ?? hash).toBe(hash)
        seen.set(hash, content).set(`${format} ${content}`, hash)
      }
    }
  })
  expect(seen.size).toBeGreaterThan(50)
})

test('a key that the next release adds changes no hash of a pool that does not use it', () => {
  forDocuments((document) => {
    for (const pool of effectivePools(document)) {
      for (const format of bodyFormats) {
        const before = poolHashes(pool, format)

        expect(poolHashes(withNextKey(pool, '1m'), format, keysOfNextRelease)).toEqual(before)
        const used = poolHashes(withNextKey(pool, '2m'), format, keysOfNextRelease)
        expect(used.hash).not.toBe(before.hash)
        expect(used.connect_hash).not.toBe(before.connect_hash)
      }
    }
  })
})
