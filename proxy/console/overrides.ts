import { isDeepStrictEqual } from 'node:util'
import { generalKeys, poolKeys } from '../../shared/config/keys.ts'
import type { GeneralKey, KeySpec, PoolKey } from '../../shared/config/keys.ts'
import { generalSettings, poolSettings, writtenValue } from '../../shared/config/settings.ts'
import type { PoolSettings } from '../../shared/config/settings.ts'
import { checkValue } from '../../shared/config/value.ts'
import { hashOf } from '../../shared/hash.ts'
import type { Engine } from '../engine/engine.ts'
import type { OperatedState } from '../operation.ts'
import type { PoolSpec } from '../spec.ts'

/** PgBouncer's names for keys in SHOW CONFIG. */
const otherNames: Readonly<Record<string, string>> = { max_client_conn: 'max_client_connections' }

/** An engine, and its general settings as written. */
interface Overridden extends Pick<Engine, 'context' | 'pools'> {
  generalValues: Readonly<Record<string, string | number>>
}

/**
 * Values changed by SET at the console, on top of the running version, until the next version or RELOAD. A pool with
 * such a value has another hash than its version, so that every comparison of desired and running shows the difference,
 * and the next version removes it.
 */
export class Overrides {
  readonly #engine: Overridden
  readonly #values = new Map<string, string | number>()
  /** General settings of the version. */
  #general: (Pick<Overridden, 'generalValues'> & { readonly settings: Engine['context']['general'] }) | null = null

  constructor(engine: Overridden) {
    this.#engine = engine
  }

  get values(): OperatedState['overrides'] {
    return [...this.#values]
  }

  /** Replaces all overrides. */
  restore(values: OperatedState['overrides']): void {
    if (isDeepStrictEqual(values, this.values)) return
    this.drop()
    for (const [key, value] of values) this.set(key, String(value))
  }

  /** "key = value" of each override. */
  texts(): string[] {
    return [...this.#values].map(([key, value]) => `${key} = ${value}`)
  }

  /** Those of pools; null without any. */
  get ofPools(): string | null {
    const texts = [...this.#values].filter(([key]) => key in poolKeys).map(([key, value]) => `${key} = ${value}`)
    return texts.length === 0 ? null : texts.join(', ')
  }

  /** Returns the error, or null. */
  set(name: string, text: string): string | null {
    const key = otherNames[name] ?? name
    const isGeneral = Object.hasOwn(generalKeys, key)
    // SET would have no effect on a general key that the agent reads too.
    if (isGeneral && generalKeys[key as GeneralKey].obeyedBy !== 'engine') return `${name} cannot be set here`
    const spec: KeySpec | undefined = isGeneral ? generalKeys[key as GeneralKey] : ownSpec(key)
    if (spec === undefined) return `${name} cannot be set here`
    if (spec.class !== 'live') return `${name} cannot be changed while servers are connected; create a new version`
    const checked = checkValue(spec, spec.type === 'integer' && /^\d{1,15}$/.test(text) ? Number(text) : text)
    if ('fault' in checked) return `${name} ${checked.fault}`
    this.#values.set(key, checked.value)
    if (isGeneral) this.#overrideGeneral(key as GeneralKey)
    else this.#overridePools()
    this.#engine.context.operated()
    return null
  }

  #overrideGeneral(key: GeneralKey): void {
    const { context, generalValues } = this.#engine
    this.#general ??= { generalValues, settings: context.general }
    const values = { ...this.#engine.generalValues, [key]: this.#values.get(key) as string | number }
    this.#engine.generalValues = values
    context.general = generalSettings(values)
  }

  #overridePools(): void {
    const overridden = Object.fromEntries([...this.#values].filter(([key]) => key in poolKeys))
    this.#engine.pools.change((spec) => {
      const version = spec.overridden ?? { hash: spec.hash, settings: spec.settings }
      const settings = withValues(version.settings, overridden)
      return { ...spec, hash: hashOf({ version: version.hash, overridden }), settings, overridden: version }
    })
  }

  /** RELOAD: restores the values of the version. */
  drop(): void {
    this.#engine.pools.change((spec) => (spec.overridden === undefined ? spec : restored(spec, spec.overridden)))
    if (this.#general !== null) {
      this.#engine.generalValues = this.#general.generalValues
      this.#engine.context.general = this.#general.settings
    }
    this.clear()
  }

  /** A version was applied, without overrides. */
  clear(): void {
    this.#general = null
    if (this.#values.size === 0) return
    this.#values.clear()
    this.#engine.context.operated()
  }
}

function ownSpec(key: string): KeySpec | undefined {
  return Object.hasOwn(poolKeys, key) ? poolKeys[key as PoolKey] : undefined
}

function withValues(settings: PoolSettings, overridden: Readonly<Record<string, string | number>>): PoolSettings {
  const written = Object.entries<KeySpec>(poolKeys).map(([key, spec]) => {
    const text = writtenValue(key as PoolKey, settings)
    return [key, spec.type === 'integer' ? Number(text) : text]
  })
  // All values were checked against the key table, here or when the version was created.
  return poolSettings({ ...Object.fromEntries(written), ...overridden } as Parameters<typeof poolSettings>[0])
}

function restored(spec: PoolSpec, version: NonNullable<PoolSpec['overridden']>): PoolSpec {
  const { overridden: _, ...rest } = spec
  return { ...rest, ...version }
}
