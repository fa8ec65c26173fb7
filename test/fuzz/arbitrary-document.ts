/** Trees of documents: mostly valid ones, with any keys of the tables. */
import * as fc from 'fast-check'
import { generalKeys, poolKeys } from '../../shared/config/keys.ts'
import type { KeySpec } from '../../shared/config/keys.ts'

function fitting(spec: KeySpec): fc.Arbitrary<unknown> {
  switch (spec.type) {
    case 'integer':
      // A minimum never above a size, or nearly every tree would be refused for that alone.
      return spec.min === 0 ? fc.constantFrom(0, 1) : fc.integer({ min: spec.min, max: spec.max })
    case 'duration':
      return fc.constantFrom('1s', '1000ms', '90s', '2m', '1h')
    case 'choice':
      return fc.constantFrom(...spec.choices)
    case 'string':
      return fc.constantFrom('127.0.0.1', '::')
    default:
      return spec satisfies never
  }
}

/** Mostly a value that fits, now and then anything. */
function valueOf(spec: KeySpec): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 400, arbitrary: fitting(spec) }, { weight: 1, arbitrary: fc.jsonValue() })
}

/** Mostly the default: one such key asks for others, and nearly every tree would be refused for that alone. */
function usualValue(spec: KeySpec): fc.Arbitrary<unknown> {
  return fc.oneof({ weight: 400, arbitrary: fc.constant(spec.default) }, { weight: 1, arbitrary: valueOf(spec) })
}

function isLinked(key: string): boolean {
  return /_tls|^auth_|^server_auth$|^unix_socket_|^login_backoff_/.test(key)
}

function keysOf(keys: Record<string, KeySpec>): Record<string, fc.Arbitrary<unknown>> {
  const entries = Object.entries(keys).map(([key, spec]) => [key, isLinked(key) ? usualValue(spec) : valueOf(spec)])
  return Object.fromEntries(entries) as Record<string, fc.Arbitrary<unknown>>
}

const name = fc.oneof(
  { weight: 60, arbitrary: fc.stringMatching(/^[a-z]{1,3}$/) },
  { weight: 1, arbitrary: fc.string() },
  { weight: 1, arbitrary: fc.constantFrom('__proto__', 'constructor', 'toString', 'pgbouncer', '*') },
)
const password = fc.oneof(
  { weight: 60, arbitrary: fc.stringMatching(/^[a-z]{1,8}$/) },
  { weight: 3, arbitrary: fc.record({ env: name }) },
  { weight: 1, arbitrary: fc.jsonValue() },
)
const credentials = { server_user: name, server_password: password }
const server = fc.record(
  { host: fc.constantFrom('a', 'b', 'c'), port: fc.constantFrom(1, 5432), role: fc.constant('replica') },
  { requiredKeys: ['host', 'role'] },
)
const user = fc
  .tuple(fc.record({ ...keysOf(poolKeys), ...credentials }, { requiredKeys: [] }), password)
  .map(([keys, secret]) => ({ ...keys, password: secret }))
const pool = fc.record(
  {
    ...keysOf(poolKeys),
    ...credentials,
    database: name,
    servers: fc.oneof(
      { weight: 9, arbitrary: fc.uniqueArray(server, { minLength: 1, maxLength: 3, selector: ({ host }) => host }) },
      { weight: 1, arbitrary: fc.array(server, { maxLength: 3 }) },
    ),
    users: fc.dictionary(name, user, { minKeys: 1, maxKeys: 3 }),
  },
  { requiredKeys: ['servers', 'users'] },
)
export const tree = fc.record(
  {
    general: fc.record(keysOf(generalKeys), { requiredKeys: [] }),
    defaults: fc.record(keysOf(poolKeys), { requiredKeys: [] }),
    pools: fc.dictionary(name, pool, { minKeys: 1, maxKeys: 3 }),
    admin_users: fc.dictionary(name, fc.record({ password }), { maxKeys: 2 }),
  },
  { requiredKeys: ['pools'] },
)
