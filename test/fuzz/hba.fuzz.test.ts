/** Texts of pg_hba.conf and pg_ident.conf that make sense, nearly make sense, or none at all. */
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { firstMatch, parseHba } from '../../shared/config/hba.ts'
import { mayBe, parseIdent } from '../../shared/config/ident.ts'
import { parseIp } from '../../shared/config/network.ts'
import { mutated } from './mutated.ts'

const word = fc.oneof(
  fc.constantFrom('all', 'trust', 'map=a', '"a ""b"', 'a,b', '/^(a)', '\\1', 'sameuser', '+x', '@f', '#', '\\'),
  fc.constantFrom('10.0.0.0/8', '10.0.0.0', '255.0.0.0', '::1/128', '::ffff:1.2.3.4/96'),
  fc.string({ maxLength: 6 }),
)
const rule = fc.tuple(
  fc.constantFrom('host', 'hostssl', 'hostnossl', 'local'),
  fc.constantFrom('all', 'a', 'sameuser', '"a b",c', '/^a+$'),
  fc.constantFrom('all', 'a', 'a,"all"', '/(a|b)'),
  fc.constantFrom('all', '10.0.0.0/8', '10.0.0.0 255.0.0.0', '::1/128', ''),
  fc.constantFrom('trust', 'reject', 'md5', 'cert', 'password', 'scram-sha-256'),
  fc.constantFrom('', 'map=a', 'clientcert=verify-ca'),
)
const mapping = fc.tuple(fc.constantFrom('a', '"a"'), word, fc.constantFrom('a', 'all', '\\1', '/^a'))
const line = fc.oneof(rule, mapping, fc.array(word, { maxLength: 8 })).map((words) => words.join(' '))
const text = fc.array(line, { maxLength: 5 }).map((lines) => Buffer.from(lines.join('\n')))
const address = fc.oneof(fc.constantFrom('10.1.2.3', '::1', '1.2.3.4'), fc.ipV4(), fc.ipV6())

test('any text is read into rules, with a line for each fault, and the rules can be matched', () => {
  let useful = 0
  fc.assert(
    fc.property(mutated(text), address, fc.boolean(), (bytes, from, tls) => {
      const given = bytes.toString()
      const { rules, faults } = parseHba(given)
      const count = given.split('\n').length

      for (const { line, message } of faults) {
        expect(line).toBeGreaterThan(0)
        expect(line).toBeLessThanOrEqual(count)
        expect(message).not.toBe('')
      }
      const arrival = { database: 'a', user: 'a', address: parseIp(from) ?? null, tls, replication: false }
      const match = firstMatch(rules, arrival)
      if (rules.length > 0) useful++
      expect(match === undefined || rules.includes(match)).toBe(true)
    }),
    { numRuns: 5000 },
  )
  expect(useful).toBeGreaterThan(100)
})

test('any text is read into maps, which can be matched', () => {
  let useful = 0
  fc.assert(
    fc.property(mutated(text), fc.string({ maxLength: 8 }), (bytes, name) => {
      const { lines } = parseIdent(bytes.toString())
      if (lines.length > 0) useful++

      for (const { map } of lines) expect(typeof mayBe(lines, map, name, 'a')).toBe('boolean')
    }),
    { numRuns: 5000 },
  )
  expect(useful).toBeGreaterThan(100)
})

test('an address is read as every other way of writing it', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 0xffff }), { minLength: 8, maxLength: 8 }), (groups) => {
      const full = groups.map((group) => group.toString(16)).join(':')
      const bits = groups.reduce((sum, group) => (sum << 16n) | BigInt(group), 0n)

      expect(parseIp(full)).toEqual({ family: 6, bits })
      expect(parseIp(full.toUpperCase())).toEqual({ family: 6, bits })
      expect(parseIp(full.replace(/(^|:)0(:0)+(:|$)/, '::'))).toEqual({ family: 6, bits })
    }),
  )
  fc.assert(
    fc.property(fc.string({ maxLength: 20 }), (any) => {
      expect(() => parseIp(any)).not.toThrow()
    }),
  )
})
