/** The effective configuration of a pool, and of the proxies themselves, as written for proxies: see formats.ts. */
import { credentialEntries } from './credentials.ts'
import type { EffectiveGeneral, EffectivePool } from './effective.ts'
import { firstRelease } from './first-release.ts'
import type { BodyFormat } from './formats.ts'
import { generalKeys, poolKeys } from './keys.ts'
import type { GeneralValues, KeySpec } from './keys.ts'
import { absentMeans } from './value.ts'

type Keys = Readonly<Record<string, KeySpec>>
type Values = Readonly<Record<string, unknown>>

/** The body of a pool. `keys`: the table of pool keys. */
export function bodyIn(format: BodyFormat, pool: EffectivePool, keys: Keys = poolKeys): Values {
  const named = valuesIn(format, pool, keys, firstRelease.pool)
  const first: readonly string[] = firstRelease.credentials
  const added = credentialEntries().filter(([key]) => !first.includes(key) && pool[key] === null)
  return added.length === 0 ? named : without(named, new Set<string>(added.map(([key]) => key)))
}

/** The general part of a manifest. `keys`: the table of general keys. */
export function generalIn(
  format: BodyFormat,
  { settings, console_users }: EffectiveGeneral,
  keys: Keys = generalKeys,
): { readonly settings: Values; readonly console_users: EffectiveGeneral['console_users'] } {
  return { settings: valuesIn(format, settings, keys, firstRelease.general), console_users }
}

/** The inverse of `bodyIn`, for a body whose keys and values have been checked. */
export function effectiveOf(body: Values, keys: Keys = poolKeys): EffectivePool {
  const nulls = credentialEntries().flatMap(([key, { presence }]) => (presence === 'or_null' ? [[key, null]] : []))
  // The caller has checked that the rest is there.
  return { ...Object.fromEntries(nulls), ...allAbsent(keys), ...body } as EffectivePool
}

/** The inverse of `generalIn`. */
export function generalOf(settings: Values, keys: Keys = generalKeys): GeneralValues {
  // As above.
  return { ...allAbsent(keys), ...settings } as unknown as GeneralValues
}

function valuesIn(format: BodyFormat, given: object, keys: Keys, first: Readonly<Record<string, unknown>>): Values {
  // Format 1 begins with the keys of that time, in their order and, should one be gone, with its value of that time.
  const values: Record<string, unknown> = {}
  if (format === 1) Object.assign(values, first)
  const absent = allAbsent(keys)
  for (const [key, value] of Object.entries(given)) {
    const isNamed = format === 1 && Object.hasOwn(first, key)
    if (isNamed || !Object.hasOwn(absent, key) || value !== absent[key]) values[key] = value
  }
  return values
}

/** Needed for each pool, and made once for the tables there are. */
const absentFromPools = absentValues(poolKeys)
const absentFromGeneral = absentValues(generalKeys)

function allAbsent(keys: Keys): Values {
  if (keys === poolKeys) return absentFromPools
  return keys === generalKeys ? absentFromGeneral : absentValues(keys)
}

function absentValues(keys: Keys): Values {
  return Object.fromEntries(Object.entries(keys).map(([key, spec]) => [key, absentMeans(spec)]))
}

function without(values: Values, left: ReadonlySet<string>): Values {
  return Object.fromEntries(Object.entries(values).filter(([key]) => !left.has(key)))
}
