/**
 * Settings as code uses them, derived from the key table by rule: camelCase, durations in milliseconds with the suffix
 * `Ms`. `query_wait_timeout` "120s" → `queryWaitTimeoutMs` 120000.
 */
import { formatDuration, parseDuration } from './duration.ts'
import { generalKeys, poolKeys } from './keys.ts'
import type { GeneralKey, GeneralValues, KeySpec, PoolKey, PoolKeySpec, PoolValues } from './keys.ts'

type Camel<Text extends string> = Text extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : Text

type Name<Key extends string, Spec extends KeySpec> = Spec extends { type: 'duration' } ? `${Camel<Key>}Ms` : Camel<Key>

type Value<Spec extends KeySpec, Written> = Spec extends { type: 'duration' } ? number : Written

export type GeneralSettings = {
  readonly [Key in GeneralKey as Name<Key, (typeof generalKeys)[Key]>]: Value<
    (typeof generalKeys)[Key],
    GeneralValues[Key]
  >
}

export type PoolSettings = {
  readonly [Key in PoolKey as Name<Key, (typeof poolKeys)[Key]>]: Value<(typeof poolKeys)[Key], PoolValues[Key]>
}

type NamesOf<Keys extends Record<string, KeySpec>, Mark> = {
  [Key in keyof Keys & string]: Keys[Key] extends Mark ? Name<Key, Keys[Key]> : never
}[keyof Keys & string]

/** What the engine may read of `[general]`. */
export type EngineGeneralSettings = Pick<
  GeneralSettings,
  NamesOf<typeof generalKeys, { obeyedBy: 'engine' | 'both' }> & keyof GeneralSettings
>

/** What auth_query may read of a pool's settings. */
export type AuthQuerySettings = Pick<PoolSettings, NamesOf<typeof poolKeys, { ofAuthQuery: true }> & keyof PoolSettings>

/** Exactly the settings of auth_query. */
export function authQuerySettings(settings: PoolSettings): AuthQuerySettings {
  const names = Object.entries<PoolKeySpec>(poolKeys).flatMap(([key, spec]) =>
    spec.ofAuthQuery === true ? [settingName(key, spec)] : [],
  )
  // The names are made by the rule the type is made by.
  const values = settings as Readonly<Record<string, unknown>>
  return Object.fromEntries(names.map((name) => [name, values[name]])) as unknown as AuthQuerySettings
}

function settingsOf(keys: Record<string, KeySpec>, values: Record<string, string | number>): Record<string, unknown> {
  const settings: Record<string, unknown> = {}
  for (const [key, spec] of Object.entries(keys)) {
    const value = values[key] ?? spec.default
    settings[settingName(key, spec)] = spec.type === 'duration' ? parseDuration(String(value)) : value
  }
  return settings
}

/** Name of a key in code. */
function settingName(key: string, spec: KeySpec): string {
  const camel = key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
  return spec.type === 'duration' ? `${camel}Ms` : camel
}

/** Value of a key as written in a document: the inverse of `poolSettings`. */
export function writtenValue(key: PoolKey, settings: PoolSettings): string {
  const spec: KeySpec = poolKeys[key]
  // The name follows the same rule as the type.
  const value = (settings as Readonly<Record<string, string | number>>)[settingName(key, spec)]!
  return spec.type === 'duration' ? formatDuration(Number(value)) : String(value)
}

/** Missing keys take their defaults; the values must have been validated. */
export function generalSettings(values: Partial<GeneralValues>): GeneralSettings {
  return settingsOf(generalKeys, values) as GeneralSettings
}

/** Missing keys take their defaults; the values must have been validated. */
export function poolSettings(values: Partial<PoolValues>): PoolSettings {
  return settingsOf(poolKeys, values) as PoolSettings
}
