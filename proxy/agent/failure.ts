import type { Desired } from '../spec.ts'

/**
 * Why an offered version does not run. `alone`: the cause may pass, so the proxy retries with backoff. `asked`: only
 * another version, a hint, RELOAD or SIGHUP triggers a retry.
 */
export const failures = {
  unresolvable_host: { retry: 'alone', help: 'a server name does not resolve' },
  missing_environment_variable: {
    retry: 'alone',
    help: 'a password refers to an environment variable that is not set',
  },
  secret_unavailable: { retry: 'alone', help: 'could not get the value of a secret from control' },
  body_unavailable: { retry: 'alone', help: 'could not get the configuration of a pool from control' },
  hash_mismatch: { retry: 'alone', help: 'the configuration of a pool does not match its hash' },
  unusable_password: { retry: 'asked', help: 'a password is not usable for its purpose' },
  unusable_tls: { retry: 'alone', help: 'a TLS file or cipher list could not be used' },
  unsupported_body: { retry: 'asked', help: 'unsupported configuration; the proxy may be too old' },
  cannot_start: { retry: 'alone', help: 'with these process settings the proxy could not start on this machine' },
  cannot_serve: { retry: 'alone', help: 'a pool that serves now would stop serving' },
  superseded: { retry: 'asked', help: 'a newer version was offered while this one was tried' },
  empty_configuration: { retry: 'asked', help: 'a configuration without pools never replaces a working one' },
  invalid_configuration: { retry: 'asked', help: 'the configuration file is unreadable or invalid' },
  older_position: { retry: 'asked', help: 'the offered version is not above the running one' },
  engine_died: { retry: 'asked', help: 'the engine died while applying the version; it is retried once' },
  internal_error: { retry: 'alone', help: 'internal error of the proxy' },
} as const satisfies Record<string, { retry: 'alone' | 'asked'; help: string }>

export type FailureCode = keyof typeof failures

/**
 * A version was rejected; nothing that runs has changed. The message may be shown to operators and contains no secret.
 */
export class ApplyError extends Error {
  readonly code: FailureCode
  readonly pool: string | null
  readonly user: string | null
  /** Other pools that fail too. */
  readonly others: readonly ApplyError[]

  constructor(
    code: FailureCode,
    message: string,
    about: {
      readonly pool?: string
      readonly user?: string
      readonly others?: readonly ApplyError[]
      readonly cause?: unknown
    } = {},
  ) {
    super(message, about.cause === undefined ? undefined : { cause: about.cause })
    this.name = 'ApplyError'
    this.code = code
    this.pool = about.pool ?? null
    this.user = about.user ?? null
    this.others = about.others ?? []
  }

  get retriesAlone(): boolean {
    return failures[this.code].retry === 'alone' || this.others.some(({ retriesAlone }) => retriesAlone)
  }

  /** Whether it is about this pool: itself or one of the others. */
  about(pool: string, user: string): ApplyError | null {
    const isAbout = (error: ApplyError): boolean =>
      (error.pool === null || error.pool === pool) && (error.user === null || error.user === user)
    return [this, ...this.others].find(isAbout) ?? null
  }

  /** As sent to the engine and control. */
  get outline(): NonNullable<Desired['error']> {
    return { code: this.code, message: this.message, pool: this.pool, user: this.user }
  }

  /** As shown at the console: `pools.app.users.web: message (code)`. */
  get sentence(): string {
    return `${pathOf(this.pool, this.user)}${this.message} (${this.code})`
  }
}

function pathOf(pool: string | null, user: string | null): string {
  if (pool === null) return ''
  return user === null ? `pools.${pool}: ` : `pools.${pool}.users.${user}: `
}
