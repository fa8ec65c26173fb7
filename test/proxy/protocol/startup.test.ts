import { describe, expect, test } from 'vitest'
import { parseStartup, startupBytesMax } from '../../../proxy/protocol/startup.ts'
import type { StartupPacket } from '../../../proxy/protocol/startup.ts'
import { startup } from '../../../proxy/protocol/write.ts'

function parse(bytes: Uint8Array): StartupPacket {
  return parseStartup(bytes, 0, bytes.length)
}

function hex(text: string): Buffer {
  return Buffer.from(text.replaceAll(' ', ''), 'hex')
}

/** A StartupMessage of protocol `version` with this body. */
function packet(version: string, body: string): Buffer {
  const bytes = Buffer.concat([Buffer.alloc(4), hex(version), Buffer.from(body)])
  bytes.writeInt32BE(bytes.length)
  return bytes
}

const invalidLayout = {
  kind: 'invalid',
  reason: 'invalid startup packet layout: expected terminator as last byte',
  told: true,
}

test('a startup message gives its version and its parameters', () => {
  const bytes = packet('0003 0000', 'user\0app\0application_name\0né "x" \\\0empty\0\0\0')

  expect(parse(bytes)).toEqual({
    kind: 'startup',
    end: bytes.length,
    major: 3,
    minor: 0,
    parameters: new Map([
      ['user', 'app'],
      ['application_name', 'né "x" \\'],
      ['empty', ''],
    ]),
    protocolOptions: [],
  })
})

test('it may stand anywhere in the buffer, with other bytes around it', () => {
  const bytes = packet('0003 0000', 'user\0app\0\0')
  const around = Buffer.concat([Buffer.alloc(9, 1), bytes, Buffer.from('Q')])

  expect(parseStartup(around, 9, around.length)).toMatchObject({ kind: 'startup', end: 9 + bytes.length })
})

test('every prefix of a packet is incomplete', () => {
  const bytes = packet('0003 0000', 'user\0app\0\0')

  for (let end = 0; end < bytes.length; end++) {
    expect(parseStartup(bytes, 0, end)).toEqual({ kind: 'incomplete' })
  }
})

test('protocol options are told from parameters, whatever the minor version', () => {
  const bytes = packet('0003 270f', 'user\0app\0_pq_.test_protocol_negotiation\x001\0_pq_.x\0\0\0')

  expect(parse(bytes)).toMatchObject({
    major: 3,
    minor: 9999,
    parameters: new Map([['user', 'app']]),
    protocolOptions: ['_pq_.test_protocol_negotiation', '_pq_.x'],
  })
})

test('of a parameter that is given twice the last value counts', () => {
  expect(parse(packet('0003 0000', 'user\0one\0user\0two\0\0'))).toMatchObject({
    parameters: new Map([['user', 'two']]),
  })
})

test('a message without a user is a startup message: who needs one says so', () => {
  expect(parse(packet('0003 0000', '\0'))).toMatchObject({ kind: 'startup', parameters: new Map() })
})

test('another major version is told by its number, whatever follows', () => {
  expect(parse(packet('0002 0000', 'anything'))).toMatchObject({ kind: 'startup', major: 2, minor: 0 })
  expect(parse(packet('1234 5678', ''))).toMatchObject({ kind: 'startup', major: 0x1234, minor: 0x5678 })
})

test('encryption requests are eight bytes', () => {
  expect(parse(hex('00000008 04d2162f'))).toEqual({ kind: 'ssl', end: 8 })
  expect(parse(hex('00000008 04d21630'))).toEqual({ kind: 'gss', end: 8 })
  expect(parse(hex('00000009 04d2162f 00'))).toMatchObject({ kind: 'invalid' })
})

describe('a cancel request', () => {
  const request = (secretBytes: number): Buffer => {
    const bytes = Buffer.concat([Buffer.alloc(4), hex('04d2162e fffffff6'), Buffer.alloc(secretBytes, 7)])
    bytes.writeInt32BE(bytes.length)
    return bytes
  }

  test.each([4, 32, 256])('has a key of %i bytes, which outlives the buffer', (secretBytes) => {
    const bytes = request(secretBytes)
    const parsed = parse(bytes)
    const { length } = bytes
    bytes.fill(0)

    expect(parsed).toEqual({ kind: 'cancel', end: length, pid: -10, secret: new Uint8Array(secretBytes).fill(7) })
  })

  test.each([0, 3, 257])('with a key of %i bytes is invalid', (secretBytes) => {
    expect(parse(request(secretBytes))).toMatchObject({ kind: 'invalid' })
  })
})

test.each(['00000000', '00000007', '80000000', 'ffffffff', '00002711', '7fffffff'])(
  'a length of 0x%s is invalid before anything else has arrived',
  (length) => {
    expect(parse(hex(length))).toEqual({ kind: 'invalid', reason: 'invalid length of startup packet', told: false })
  },
)

test('a packet of the greatest length is read', () => {
  const value = 'x'.repeat(startupBytesMax - 8 - 'user'.length - 3)
  const bytes = startup({ user: value })
  expect(bytes.length).toBe(startupBytesMax)

  expect(parse(bytes)).toMatchObject({ kind: 'startup', parameters: new Map([['user', value]]) })
})

test.each([
  ['no terminator', 'user\0app\0'],
  ['a name without a value', 'user\0\0'],
  ['a value that does not end', 'user\0app'],
  ['bytes after the terminator', 'user\0app\0\0\0'],
  ['nothing at all', ''],
])('%s is an invalid layout', (_what, body) => {
  expect(parse(packet('0003 0000', body))).toEqual(invalidLayout)
})

test('a NUL beyond the end of the packet does not end its last value', () => {
  const bytes = Buffer.concat([packet('0003 0000', 'user\0app'), Buffer.from('\0\0')])

  expect(parse(bytes)).toEqual(invalidLayout)
})

test('text that is not UTF-8 is invalid', () => {
  const bytes = Buffer.concat([hex('00000011 0003 0000'), Buffer.from('user\0'), hex('ff fe 00 00')])
  bytes.writeInt32BE(bytes.length)

  expect(parse(bytes)).toEqual({ kind: 'invalid', reason: 'startup packet is not valid UTF-8', told: true })
})
