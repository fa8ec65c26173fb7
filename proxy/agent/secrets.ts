import type { SecretRef } from '../../shared/config/credentials.ts'
import { ApplyError, type FailureCode } from './failure.ts'
import { reasonOf } from './log.ts'

/** Key of a secret of control: a version of a secret never changes. */
export function secretKey(ref: { readonly secret: string; readonly version: number }): string {
  return `${ref.secret}@${ref.version}`
}

/**
 * Resolves references to values: literals, environment variables, and control's secrets by name and version, each
 * fetched once.
 */
export class Secrets {
  readonly #environment: Readonly<Record<string, string | undefined>>
  readonly #fetch: ((name: string, version: number) => Promise<string>) | null
  readonly #values = new Map<string, string>()

  /** `fetch` is null for a proxy without control. */
  constructor(
    environment: Readonly<Record<string, string | undefined>>,
    fetch: ((name: string, version: number) => Promise<string>) | null,
  ) {
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

  async #fetched(ref: { readonly secret: string; readonly version: number }): Promise<string> {
    const code: FailureCode = 'secret_unavailable'
    const what = `version ${ref.version} of the secret ${ref.secret}`
    if (this.#fetch === null) throw new ApplyError(code, `no control plane to get ${what} from`)
    try {
      const value = await this.#fetch(ref.secret, ref.version)
      this.#values.set(secretKey(ref), value)
      return value
    } catch (error) {
      throw new ApplyError(code, `could not get ${what} from control: ${reasonOf(error)}`, { cause: error })
    }
  }
}
