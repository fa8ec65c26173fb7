import { describe, expect, test } from 'vitest'
import {
  errorAdvice,
  errorFields,
  int16,
  int32,
  parameterStatus,
  stringEnd,
  text,
} from '../../../proxy/protocol/read.ts'

test('integers are read most significant byte first', () => {
  const bytes = Buffer.from('00 ffff fffffff6 7fffffff 8000'.replaceAll(' ', ''), 'hex')

  expect(int16(bytes, 1)).toBe(65535)
  expect(int32(bytes, 3)).toBe(-10)
  expect(int32(bytes, 7)).toBe(2147483647)
  expect(int16(bytes, 11)).toBe(32768)
})

test('a string ends at its NUL, or at the end of the body', () => {
  const bytes = Buffer.from('ab\0cd\0')

  expect(stringEnd(bytes, 0, 6)).toBe(2)
  expect(stringEnd(bytes, 3, 5)).toBe(5)
  expect(stringEnd(bytes, 2, 2)).toBe(2)
  expect(text(bytes, 3, 5)).toBe('cd')
  expect(text(Buffer.from('\ufeffx'), 0, 4)).toBe('\ufeffx')
})

describe('error fields', () => {
  const fields = (body: string): ReturnType<typeof errorFields> => {
    const bytes = Buffer.from(`before\0${body}after\0`)
    return errorFields(bytes, 7, bytes.length - 6)
  }

  test('severity, code and message are found among the others, the severity that is never translated first', () => {
    expect(fields('SFATALE\0VFATAL\0C57P01\0Mterminating\0Hhint\0Ffile.c\0L12\0Rdie\0\0')).toEqual({
      severity: 'FATAL',
      code: '57P01',
      message: 'terminating',
      routine: 'die',
    })
    expect(fields('SERROR\0C42601\0Mé\0\0')).toEqual({ severity: 'ERROR', code: '42601', message: 'é', routine: '' })
  })

  test('detail and hint are there only where the error has them', () => {
    const advice = (body: string): ReturnType<typeof errorAdvice> => {
      const bytes = Buffer.from(`before\0${body}after\0`)
      return errorAdvice(bytes, 7, bytes.length - 6)
    }

    expect(advice('SERROR\0C22023\0MDo\0DList syntax is invalid.\0HTry é\0\0')).toEqual({
      detail: 'List syntax is invalid.',
      hint: 'Try é',
    })
    expect(advice('SERROR\0MHow\0\0')).toEqual({})
    expect(advice('')).toEqual({})
    expect(advice('Hcut sh')).toEqual({ hint: 'cut sh' })
    expect(advice(`D${'é'.repeat(1_000_000)}\0\0`).detail).toBe('é'.repeat(500))
  })

  test('what is missing has a neutral value', () => {
    expect(fields('\0')).toEqual({ severity: '', code: 'XX000', message: '', routine: '' })
    expect(fields('')).toEqual({ severity: '', code: 'XX000', message: '', routine: '' })
  })

  test('a body cut short anywhere gives what is there, and nothing from behind it', () => {
    const whole = Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating\0\0')

    for (let end = 0; end <= whole.length; end++) {
      const cut = errorFields(Buffer.concat([whole.subarray(0, end), Buffer.from('!!!\0')]), 0, end)
      expect('terminating'.startsWith(cut.message)).toBe(true)
      expect('FATAL'.startsWith(cut.severity)).toBe(true)
    }
  })

  test('a message of megabytes is cut', () => {
    expect(fields(`SERROR\0M${'é'.repeat(1_000_000)}\0\0`).message).toBe('é'.repeat(500))
  })
})

test('a parameter status is a name and a value, also when it is cut short', () => {
  const read = (body: string): [string, string] => parameterStatus(Buffer.from(`${body}after\0`), 0, body.length)

  expect(read('TimeZone\0Europe/Berlin\0')).toEqual(['TimeZone', 'Europe/Berlin'])
  expect(read('TimeZone\0Euro')).toEqual(['TimeZone', 'Euro'])
  expect(read('TimeZone')).toEqual(['TimeZone', ''])
  expect(read('')).toEqual(['', ''])
})
