import { expect, test } from 'vitest'
import { parseIfMatch, parseWaitS } from '../../../control/domain/preconditions.ts'

test('If-Match names one version or several', () => {
  expect(parseIfMatch('"v0"')).toEqual([0])
  expect(parseIfMatch(' "v3" , "v4"')).toEqual([3, 4])
})

test('an If-Match that is anything else is none', () => {
  for (const header of ['', '*', 'v3', '"3"', 'W/"v3"', '"v03"', '"v3', '"v3",', '"v-1"', '"v3" "v4"']) {
    expect([header, parseIfMatch(header)]).toEqual([header, undefined])
  }
})

test('the seconds of a preferred wait are found among other preferences', () => {
  expect(parseWaitS('wait=25')).toBe(25)
  expect(parseWaitS('respond-async, WAIT = "10"')).toBe(10)
  expect(parseWaitS('return=minimal; x=1; wait=5, y')).toBe(5)
})

test('without a preferred wait there is none', () => {
  for (const header of [undefined, '', 'wait', 'wait=', 'wait=x', 'await=5', 'wait=-1', 'wait=1.5']) {
    expect([header, parseWaitS(header)]).toEqual([header, undefined])
  }
})
