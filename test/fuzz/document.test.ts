import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { noSecrets, readDocument } from '../../shared/config/document.ts'
import { effectiveGeneral, effectivePools } from '../../shared/config/effective.ts'
import { parseJson } from '../../shared/config/json.ts'
import { ConfigError, ConfigSyntaxError } from '../../shared/config/problems.ts'
import { parseToml } from '../../shared/config/text.ts'
import { hashOf, poolHashes } from '../../shared/hash.ts'
import { tree } from './arbitrary-document.ts'

test('a tree is either refused with paths or read into what can be hashed and read again', () => {
  let read = 0
  fc.assert(
    fc.property(tree, (given) => {
      let document
      try {
        document = readDocument(given, noSecrets)
      } catch (error) {
        return error instanceof ConfigError && error.problems.length > 0
      }
      read += 1
      const hashes = effectivePools(document).map((one) => poolHashes(one).hash)
      hashOf(effectiveGeneral(document))
      const again = readDocument(parseJson(JSON.stringify(document)), noSecrets)
      return new Set(hashes).size === hashes.length && hashOf(again) === hashOf(document)
    }),
    { numRuns: 500 },
  )
  // Enough of them are valid for the second half to be worth something.
  expect(read).toBeGreaterThan(100)
})

test('a tree of anything is refused with paths', () => {
  fc.assert(
    fc.property(fc.object({ maxDepth: 5, values: [fc.anything()] }), (given) => {
      try {
        readDocument(given, noSecrets)
        return false
      } catch (error) {
        return error instanceof ConfigError
      }
    }),
    { numRuns: 500 },
  )
  expect(() => readDocument(undefined, noSecrets)).toThrow(ConfigError)
})

test('text of anything is read or refused with line and column', () => {
  const toml =
    '[pools.app]\nservers = [{ host = "db", port = 5432 }]\n[pools.app.users.web]\npassword = """x"""\nat = 1979-05-27\n'
  const json = '{"pools": {"app": {"servers": [{"host": "\\u0064b", "port": 5.4e3}], "x": [true, null]}}}'
  const mangled = fc
    .tuple(fc.constantFrom(toml, json), fc.nat(), fc.nat({ max: 5 }), fc.string({ maxLength: 5, unit: 'binary' }))
    .map(([text, at, cut, put]) => text.slice(0, at % text.length) + put + text.slice((at % text.length) + cut))
  fc.assert(
    fc.property(
      fc.oneof(mangled, fc.string({ unit: 'binary' })),
      fc.constantFrom(parseToml, parseJson),
      (text, parse) => {
        try {
          parse(text)
          return true
        } catch (error) {
          return error instanceof ConfigSyntaxError && error.line >= 1 && error.column >= 1
        }
      },
    ),
    { numRuns: 3000 },
  )
  expect(() => parseToml('a = [')).toThrow(ConfigSyntaxError)
})
