import { expect, test } from 'vitest'
import { poolKeys } from '../../../../shared/config/keys.ts'
import type { PoolKey, PoolKeySpec, PoolValues } from '../../../../shared/config/keys.ts'
import { EngineInProcess, poolSpec } from '../../console/engine-in-process.ts'

const { authQueries } = new EngineInProcess().engine.pools

function sourceOf(values: Partial<PoolValues>) {
  const source = authQueries.sourceOf(poolSpec({ port: 1 }, { auth_type: 'md5', auth_user: 'lookup', ...values }))
  if (source === null) throw new Error('the pool has no auth_query')
  return source
}

/** A valid value that is not the default. */
function another(spec: PoolKeySpec): string | number {
  switch (spec.type) {
    case 'choice':
      return spec.choices.find((choice) => choice !== spec.default)!
    case 'integer':
    case 'duration':
      return spec.default === spec.min ? spec.max : spec.min
    case 'string':
      return 'another'
    default:
      return spec satisfies never
  }
}

test('pools share a source of auth_query exactly where its own keys are equal', () => {
  const source = sourceOf({})
  const keys = Object.entries<PoolKeySpec>(poolKeys).filter(([key]) => key !== 'auth_type')

  const sharing = keys.filter(([key, spec]) => sourceOf({ [key as PoolKey]: another(spec) }) === source)

  expect(sharing.map(([key]) => key)).toEqual(keys.filter(([, spec]) => spec.ofAuthQuery !== true).map(([key]) => key))
  expect(sourceOf({ connect_timeout: '1s' })).not.toBe(source)
})

test('a pool whose auth_database is that of another shares its source', () => {
  expect(sourceOf({ auth_database: 'postgres' })).toBe(sourceOf({}))
})
