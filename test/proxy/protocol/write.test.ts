import { serialize } from 'pg-protocol'
import { Parser } from 'pg-protocol/dist/parser.js'
import type { BackendMessage } from 'pg-protocol/dist/messages.js'
import { describe, expect, test } from 'vitest'
import { parseStartup } from '../../../proxy/protocol/startup.ts'
import * as write from '../../../proxy/protocol/write.ts'
import { TypeOid } from '../../../proxy/protocol/write.ts'

/** What another implementation of the protocol reads. */
function read(bytes: Buffer): BackendMessage[] {
  const messages: BackendMessage[] = []
  new Parser().parse(bytes, (message) => messages.push(message))
  return messages
}

describe('messages to clients, read by pg-protocol', () => {
  test('authentication requests', () => {
    expect(read(write.authenticationOk())).toEqual([{ name: 'authenticationOk', length: 8 }])
    expect(read(write.authenticationMd5(Buffer.from('salt')))).toMatchObject([
      { name: 'authenticationMD5Password', salt: Buffer.from('salt') },
    ])
    expect(read(write.authenticationSasl(['A', 'B']))).toMatchObject([
      { name: 'authenticationSASL', mechanisms: ['A', 'B'] },
    ])
    expect(read(write.authenticationSaslContinue('r=1'))).toMatchObject([
      { name: 'authenticationSASLContinue', data: 'r=1' },
    ])
    expect(read(write.authenticationSaslFinal('v=1'))).toMatchObject([{ name: 'authenticationSASLFinal', data: 'v=1' }])
  })

  test('the greeting', () => {
    const statuses = write.parameterStatuses(
      new Map([
        ['a', 'é'],
        ['b', ''],
      ]),
    )
    expect(read(statuses)).toMatchObject([
      { name: 'parameterStatus', parameterName: 'a', parameterValue: 'é' },
      { name: 'parameterStatus', parameterName: 'b', parameterValue: '' },
    ])
    expect(read(write.backendKeyData(77, Buffer.from('00000008', 'hex')))).toMatchObject([
      { name: 'backendKeyData', processID: 77, secretKey: 8 },
    ])
    expect(read(write.readyForQuery('T'))).toMatchObject([{ name: 'readyForQuery', status: 'T' }])
  })

  test('errors and notices, with what is optional only where it is given', () => {
    const trouble = { severity: 'FATAL', code: '28P01', message: 'no', detail: 'why', hint: 'try' } as const
    expect(read(write.errorResponse(trouble))).toMatchObject([{ name: 'error', ...trouble }])
    expect(read(write.noticeResponse({ severity: 'NOTICE', code: '00000', message: 'hi' }))).toMatchObject([
      { name: 'notice', message: 'hi', detail: undefined, hint: undefined },
    ])
  })

  test('rows', () => {
    const described = write.rowDescription([
      { name: 'total', type: TypeOid.int8 },
      { name: 'text', type: TypeOid.text },
    ])
    expect(read(described)).toMatchObject([
      {
        name: 'rowDescription',
        fields: [
          { name: 'total', dataTypeID: 20, dataTypeSize: 8, dataTypeModifier: -1, format: 'text' },
          { name: 'text', dataTypeID: 25, dataTypeSize: -1, dataTypeModifier: -1, format: 'text' },
        ],
      },
    ])
    expect(read(write.dataRow(['1', null, '', 'é']))).toMatchObject([{ name: 'dataRow', fields: ['1', null, '', 'é'] }])
    expect(read(write.commandComplete('SHOW'))).toMatchObject([{ name: 'commandComplete', text: 'SHOW' }])
    expect(read(write.emptyQueryResponse())).toMatchObject([{ name: 'emptyQuery' }])
  })

  test('a NUL inside a text ends it and nothing else', () => {
    const message = write.errorResponse({ severity: 'ERROR', code: '08P01', message: 'a\0Cfaked' })

    expect(read(message)).toMatchObject([{ message: 'a', code: '08P01' }])
  })
})

test('NegotiateProtocolVersion names the newest version and the unknown options', () => {
  expect(write.negotiateProtocolVersion(0, ['_pq_.x']).toString('hex')).toBe(
    '76 00000013 00030000 00000001 5f70715f2e7800'.replaceAll(' ', ''),
  )
})

describe('messages to PostgreSQL', () => {
  test('are as pg-protocol writes them', () => {
    expect(write.query('SELECT é')).toEqual(serialize.query('SELECT é'))
    expect(write.terminate()).toEqual(serialize.end())
  })

  test('settings travel as parameters of one statement, never as SQL', () => {
    const bytes = write.setConfig([
      ['search_path', "a'; DROP TABLE t; --"],
      ['application_name', 'é'],
    ])

    const parse = serialize.parse({
      text:
        'SELECT pg_catalog.set_config($1, $2, false) IS NULL, ' +
        "pg_catalog.set_config($3, pg_catalog.convert_from($4, 'UTF8'), false) IS NULL",
      types: [25, 25, 25, 17],
    })
    // pg-protocol asks for one result format, text; we name none, which means the same.
    const bind = serialize.bind({
      values: ['search_path', "a'; DROP TABLE t; --", 'application_name', Buffer.from('é')],
    })
    bind.writeInt32BE(bind.readInt32BE(1) - 2, 1)
    bind.writeInt16BE(0, bind.length - 4)
    const close = serialize.close({ type: 'S', name: '' })
    expect(bytes).toEqual(
      Buffer.concat([parse, bind.subarray(0, bind.length - 2), serialize.execute(), close, serialize.sync()]),
    )
  })

  test('a cancel request and a startup message are what our own reader takes for them', () => {
    const secret = Buffer.alloc(32, 5)
    const cancel = write.cancelRequest(-7, secret)
    expect(parseStartup(cancel, 0, cancel.length)).toMatchObject({ kind: 'cancel', end: cancel.length, pid: -7 })
    expect(write.cancelRequest(1, Buffer.from('00000002', 'hex'))).toEqual(serialize.cancel(1, 2))

    const started = write.startup({ user: 'é', database: 'd' })
    expect(parseStartup(started, 0, started.length)).toMatchObject({
      kind: 'startup',
      end: started.length,
      parameters: new Map([
        ['user', 'é'],
        ['database', 'd'],
      ]),
    })
  })
})
