import type { SecretRef } from '../../shared/config/credentials.ts'
import { ApplyError, type FailureCode } from './failure.ts'
import { reasonOf } from './log.ts'

type StoredSecret = Extract<SecretRef, { readonly secret: string }>

/** Key of a secret of control: a version of a secret that was made in one epoch never changes. */
export function secretKey({ secret, version, epoch }: StoredSecret): string {
  return epoch === undefined ? `${secret}@${version}` : `${secret}@${version}@${epoch}`
}

export type FetchSecret = (ref: StoredSecret) => Promise<string>

/**
 * Resolves references to values: literals, environment variables, and control's secrets by name and version, each
 * fetched once.
 */
export class Secrets {
  readonly #environment: Readonly<Record<string, string | undefined>>
  readonly #fetch: FetchSecret | null
  readonly #values = new Map<string, string>()

  /** `fetch` is null for a proxy without control. */
  constructor(environment: Readonly<Record<string, string | undefined>>, fetch: FetchSecret | null) {
    this.#environment = environment
    this.#fetch = fetch
  }

  /** Throws an ApplyError that names the reference, never a value. */
  async value(ref: SecretRef): Promise<string> {
    if ('literal' in ref) return ref.literal
    if ('env' in ref) return this.#variable(ref.env)
    return this.#values.get(secretKey(ref)) ?? (await this.#fetched(ref))
  }

  /** Values of the last run. */
  remember(values: Readonly<Record<string, string>>): void {
    for (const [key, value] of Object.entries(values)) this.#values.set(key, value)
  }

  /** Control's store was restored: what was fetched before may not be what it has now. */
  forget(): void {
    this.#values.clear()
  }

  /** Drops everything but `keys` and returns the rest, for last-known-good. */
  keepOnly(keys: ReadonlySet<string>): Record<string, string> {
    for (const key of this.#values.keys()) {
      if (!keys.has(key)) this.#values.delete(key)
    }
    return Object.fromEntries(this.#values)
  }

  #variable(name: string): string {
    const value = Object.hasOwn(this.#environment, name) ? this.#environment[name] : undefined
    if (value !== undefined && value !== '') return value
    throw new ApplyError('missing_environment_variable', `the environment variable ${name} is not set`)
  }

  async #fetched(ref: StoredSecret): Promise<string> {
    const code: FailureCode = 'secret_unavailable'
    const what = `version ${ref.version} of the secret ${ref.secret}`
    if (this.#fetch === null) throw new ApplyError(code, `no control plane to get ${what} from`)
    try {
      const value = await this.#fetch(ref)
      this.#values.set(secretKey(ref), value)
      return value
    } catch (error) {
      throw new ApplyError(code, `could not get ${what} from control: ${reasonOf(error)}`, { cause: error })
    }
  }
}
