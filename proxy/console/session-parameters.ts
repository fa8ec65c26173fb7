import { SqlError } from '../../shared/errors.ts'
import * as write from '../protocol/write.ts'
import type { Exchange } from '../engine/wire/conversation.ts'
import type { Caller } from './caller.ts'
import { queryOthers } from './others.ts'
import { CommandError } from './command-error.ts'
import type { Statement, Token } from './statements.ts'
import { pgbouncerVersion } from './show/version.ts'

/** The console's greeting, as PgBouncer's. */
export const greeting: readonly (readonly [string, string])[] = [
  ['server_version', `${pgbouncerVersion}/bouncer`],
  ['client_encoding', 'UTF8'],
  ['server_encoding', 'UTF8'],
  ['DateStyle', 'ISO'],
  ['TimeZone', 'GMT'],
  ['standard_conforming_strings', 'on'],
  ['is_superuser', 'on'],
]

/** Parameters that drivers read; a console returns constants. */
export const fixedParameters: Readonly<Record<string, string>> = {
  client_encoding: 'UTF8',
  datestyle: 'ISO',
  default_transaction_isolation: 'read committed',
  standard_conforming_strings: 'on',
  timezone: 'GMT',
}

/** Parameters that drivers set when they connect. All are accepted; only application_name has an effect. */
const settable: ReadonlySet<string> = new Set([
  ...Object.keys(fixedParameters),
  'application_name',
  'extra_float_digits',
])

/**
 * SET [ SESSION | LOCAL ] name { TO | = } value [, …]: a session parameter of drivers, or a configuration key of this
 * proxy, until the next version or RELOAD.
 */
export function* set(caller: Caller, statement: Statement): Exchange<void> {
  const rest = statement.slice(isWord(statement[1], 'SESSION', 'LOCAL') ? 2 : 1)
  const [name, assignment, ...values] = rest
  if (name === undefined || values.length === 0 || !isAssignment(assignment)) {
    throw new CommandError('syntax_error', 'syntax error in SET', 'Use SET name = value.')
  }
  const parameter = name.value.toLowerCase()
  if (!settable.has(parameter)) {
    yield* override(caller, parameter, values)
    return
  }
  if (parameter === 'application_name') {
    caller.applicationName = values.map((value) => value.value).join('')
  } else {
    caller.send(write.noticeResponse({ severity: 'NOTICE', code: '00000', message: 'SET ignored' }))
  }
  caller.send(write.commandComplete('SET'))
}

function* override(caller: Caller, name: string, values: Statement): Exchange<void> {
  if (caller.right !== 'admin') throw new SqlError('insufficient_privilege', 'admin access needed')
  const { engine, user } = caller
  const text = values.map(({ value }) => value).join('')
  const fault = engine.overrides.set(name, text)
  if (fault !== null) {
    const hint = 'Use SHOW CONFIG to list the keys; keys that SET cannot change are changed by a new version.'
    throw new CommandError('invalid_parameter_value', `SET failed: ${fault.slice(0, faultMax)}`, hint)
  }
  // Once more here, in its turn among all operations.
  yield* queryOthers(caller, { kind: 'set', key: name, value: text })
  const fields = { key: name, value: text, user }
  engine.context.post({ type: 'log', level: 'warn', message: 'configuration changed by SET at the console', fields })
  caller.send(write.commandComplete('SET'))
}

const faultMax = 300

function isAssignment(token: Token | undefined): boolean {
  return isWord(token, 'TO') || (token?.kind === 'symbol' && token.value === '=')
}

function isWord(token: Token | undefined, ...words: readonly string[]): boolean {
  return token?.kind === 'word' && words.includes(token.value.toUpperCase())
}
