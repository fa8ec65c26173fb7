import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { allocate } from '../../../proxy/io/libc.ts'
import { readSocketAddress, socketAddressBytes, writeSocketAddress } from '../../../proxy/io/socket-address.ts'

const memory = allocate(socketAddressBytes)

function roundTrip(host: string, port = 5432): string {
  writeSocketAddress({ host, port }, memory)
  const read = readSocketAddress(memory.bytes)
  expect(read.port).toBe(port)
  return read.host
}

test('IPv6 addresses read as RFC 5952 writes them', () => {
  expect(roundTrip('::')).toBe('::')
  expect(roundTrip('::1')).toBe('::1')
  expect(roundTrip('fdaa:0:0:0::3')).toBe('fdaa::3')
  expect(roundTrip('2001:DB8:0:0:1:0:0:1')).toBe('2001:db8::1:0:0:1')
  expect(roundTrip('2001:db8:0:1:1:1:1:1')).toBe('2001:db8:0:1:1:1:1:1')
  expect(roundTrip('1:2:3:4:5:6::')).toBe('1:2:3:4:5:6::')
  expect(roundTrip('::ffff:10.1.2.3')).toBe('10.1.2.3')
})

test('every IPv4 address and port comes back as it was', () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.nat({ max: 65535 }), (host, port) => {
      expect(roundTrip(host, port)).toBe(host)
    }),
  )
})

test('every IPv6 address comes back as an equal one', () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom(0, 0, 1, 0xab, 0xffff), { minLength: 8, maxLength: 8 }), (groups) => {
      const text = groups.map((group) => group.toString(16)).join(':')
      const read = roundTrip(text)

      if (!read.includes(':')) return
      writeSocketAddress({ host: text, port: 1 }, memory)
      const before = Buffer.from(memory.bytes)
      writeSocketAddress({ host: read, port: 1 }, memory)
      expect(memory.bytes.equals(before)).toBe(true)
    }),
  )
})

test('a name is not an address', () => {
  expect(() => writeSocketAddress({ host: 'db.internal', port: 1 }, memory)).toThrow('not an IPv4 or IPv6 address')
  expect(() => writeSocketAddress({ host: '::g', port: 1 }, memory)).toThrow('not an IPv4 or IPv6 address')
  expect(() => writeSocketAddress({ host: '10.0.0', port: 1 }, memory)).toThrow('not an IPv4 or IPv6 address')
})
