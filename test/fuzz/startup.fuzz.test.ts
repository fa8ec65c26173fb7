import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseOptions } from '../../proxy/protocol/options.ts'
import { parseStartup, startupBytesMax } from '../../proxy/protocol/startup.ts'
import { startup } from '../../proxy/protocol/write.ts'
import { SqlError } from '../../shared/errors.ts'
import { mutated, thrownBy } from './mutated.ts'

const text = fc.string({ unit: 'binary', maxLength: 40 }).map((value) => value.replaceAll('\0', ''))
const name = text.filter((value) => value !== '' && !value.startsWith('_pq_.'))
const parameters = fc.dictionary(name, text, { maxKeys: 20 })

const requests = fc.constantFrom(
  Buffer.from('0000000804d2162f', 'hex'),
  Buffer.from('0000000804d21630', 'hex'),
  Buffer.from('0000001004d2162e0000000100000002', 'hex'),
)
const packets = fc.oneof(parameters.map(startup), requests)

test('whatever the bytes, the answer is one of the kinds, within the bytes, and the same wherever they stand', () => {
  fc.assert(
    fc.property(mutated(packets), fc.nat({ max: 50 }), (bytes, before) => {
      const parsed = parseStartup(bytes, 0, bytes.length)
      const moved = parseStartup(
        Buffer.concat([Buffer.alloc(before, 1), bytes, Buffer.alloc(9)]),
        before,
        before + bytes.length,
      )

      expect(moved).toEqual('end' in parsed ? { ...parsed, end: parsed.end + before } : parsed)
      expect('end' in parsed ? parsed.end : 0).toBeLessThanOrEqual(Math.min(bytes.length, startupBytesMax))
    }),
    { numRuns: 3000 },
  )
})

test('a valid packet comes back as it was, and is incomplete at every byte before its last', () => {
  fc.assert(
    fc.property(parameters, (given) => {
      const bytes = startup(given)

      expect(parseStartup(bytes, 0, bytes.length)).toMatchObject({
        kind: 'startup',
        end: bytes.length,
        parameters: new Map(Object.entries(given).map(([key, value]) => [key.toWellFormed(), value.toWellFormed()])),
      })
      for (let end = 0; end < bytes.length; end++) {
        expect(parseStartup(bytes, 0, end).kind).toBe('incomplete')
      }
    }),
    { numRuns: 100 },
  )
})

test('once a packet is refused, further bytes do not change that', () => {
  fc.assert(
    fc.property(mutated(packets), fc.uint8Array({ maxLength: 40 }), (bytes, more) => {
      const kind = parseStartup(bytes, 0, bytes.length).kind
      if (kind === 'incomplete') return

      expect(parseStartup(Buffer.concat([bytes, more]), 0, bytes.length + more.length).kind).toBe(kind)
    }),
    { numRuns: 1000 },
  )
})

test('options are settings or a typed error, and settings that are escaped come back as they were', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (options) => {
      const error = thrownBy(() => parseOptions(options))

      expect(error === null || error instanceof SqlError).toBe(true)
    }),
    { numRuns: 2000 },
  )
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.stringMatching(/^[a-z_.]+$/), text)), (settings) => {
      const options = settings.map(([key, value]) => `-c ${key}=${value.replaceAll(/[\s\\]/g, '\\$&')}`).join(' ')

      expect(parseOptions(options)).toEqual(settings)
    }),
  )
})
