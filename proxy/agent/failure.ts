import type { Desired } from '../spec.ts'

/**
 * Why an offered version does not run. `alone`: the cause may pass, so the proxy tries again by itself, with backoff.
 * `asked`: only another version, a hint, RELOAD or SIGHUP makes it try again.
 */
export const failures = {
  unresolvable_host: { retry: 'alone', help: 'the name of a server has no address' },
  missing_environment_variable: { retry: 'alone', help: 'a password names an environment variable that is not set' },
  secret_unavailable: { retry: 'alone', help: 'control did not give the value of a secret' },
  body_unavailable: { retry: 'alone', help: 'control did not give the configuration of a pool' },
  hash_mismatch: { retry: 'alone', help: 'the configuration of a pool is not what its hash promises' },
  unusable_password: { retry: 'asked', help: 'a password cannot serve for what it is needed' },
  unusable_tls: { retry: 'alone', help: 'a file or list that TLS needs cannot be read or used' },
  unsupported_body: { retry: 'asked', help: 'this proxy does not understand the configuration; it may be too old' },
  empty_configuration: { retry: 'asked', help: 'a configuration without pools never replaces a working one' },
  invalid_configuration: { retry: 'asked', help: 'the configuration file cannot be read or is not valid' },
  older_position: { retry: 'asked', help: 'what is offered is not above what runs' },
  engine_died: { retry: 'asked', help: 'the engine ended while it took the version; it is tried once more' },
  internal_error: { retry: 'alone', help: 'a fault of the proxy itself' },
} as const satisfies Record<string, { retry: 'alone' | 'asked'; help: string }>

export type FailureCode = keyof typeof failures

/** A version was refused; nothing that runs has changed. The message may be shown to operators: no secret is in it. */
export class ApplyError extends Error {
  readonly code: FailureCode
  readonly pool: string | null
  readonly user: string | null

  constructor(
    code: FailureCode,
    message: string,
    about: { readonly pool?: string; readonly user?: string; readonly cause?: unknown } = {},
  ) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause })
    this.name = 'ApplyError'
    this.code = code
    this.pool = about.pool ?? null
    this.user = about.user ?? null
  }

  get retriesAlone(): boolean {
    return failures[this.code].retry === 'alone'
  }

  /** As the engine and control are told. */
  get outline(): NonNullable<Desired['error']> {
    return { code: this.code, message: this.message, pool: this.pool, user: this.user }
  }

  /** As a person at the console reads it: `pools.app.users.web: message (code)`. */
  get sentence(): string {
    return `${pathOf(this.pool, this.user)}${this.message} (${this.code})`
  }
}

function pathOf(pool: string | null, user: string | null): string {
  if (pool === null) return ''
  return user === null ? `pools.${pool}: ` : `pools.${pool}.users.${user}: `
}
