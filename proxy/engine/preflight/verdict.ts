/** What an attempt to reach a server has shown. */
import type { Cause } from '../../../shared/causes.ts'
import { sqlstates } from '../../../shared/errors.ts'
import type { Target } from '../pool/target.ts'

export type Verdict =
  | { readonly kind: 'serves' }
  | { readonly kind: 'fails'; readonly text: string }
  /** `isStarting`: the server answered that it does not serve yet. */
  | { readonly kind: 'unknown'; readonly text: string; readonly isStarting: boolean }

export interface TargetFailure {
  readonly cause: Cause | 'auth_query'
  readonly errno: string | null
  readonly sqlstate: string | null
  readonly message: string | null
}

/** An attempt in progress. It reports once, and never after `end`. */
export interface Attempt {
  /** Gives up, or back what was opened. */
  end(): void
}

/** The server is there, and the login says nothing about the settings: it is full, or starts or stops. */
const inconclusive: ReadonlySet<string> = new Set([sqlstates.too_many_connections, sqlstates.cannot_connect_now])

/** Nothing listens, or nothing answers: what is true of one login is true of all at the address. */
const silent: ReadonlySet<string> = new Set<Cause>(['connect_refused', 'unreachable', 'connect_timeout'])

/** Addresses at which no server answers, so that many pools on one dead host cost one wait. */
export class Addresses {
  readonly #silent = new Map<string, TargetFailure>()
  readonly #answering = new Set<string>()

  failureAt(target: Target): TargetFailure | null {
    return this.#silent.get(keyOf(target)) ?? null
  }

  answered(target: Target): void {
    this.#answering.add(keyOf(target))
    this.#silent.delete(keyOf(target))
  }

  failed(target: Target, failure: TargetFailure): void {
    // What it says of the connection is in its message only.
    if (failure.cause === 'auth_query') return
    if (!silent.has(failure.cause)) this.answered(target)
    // One login may take long where others do not.
    else if (!this.#answering.has(keyOf(target))) this.#silent.set(keyOf(target), failure)
  }
}

/** The targets of a configuration, tried in turn until one serves. */
export class Round {
  readonly #targets: readonly Target[]
  readonly #addresses: Addresses
  readonly #failures: (TargetFailure & { readonly target: Target })[] = []
  #at = 0

  constructor(targets: readonly Target[], addresses: Addresses) {
    this.#targets = targets
    this.#addresses = addresses
  }

  /** The target to be tried now; null if none is left. */
  next(): Target | null {
    for (;;) {
      const target = this.#targets[this.#at]
      if (target === undefined) return null
      const known = this.#addresses.failureAt(target)
      if (known === null) return target
      this.#failures.push({ ...known, target })
      this.#at++
    }
  }

  serves(target: Target): Verdict {
    this.#addresses.answered(target)
    return { kind: 'serves' }
  }

  failed(target: Target, failure: TargetFailure): void {
    this.#addresses.failed(target, failure)
    this.#failures.push({ ...failure, target })
    this.#at++
  }

  /** When no target is left. `what` was tried, for operators. */
  verdict(what: string): Verdict {
    const text = this.#failures.map((failure) => `${what} ${textOf(failure)}`).join('; ')
    const unknown = this.#failures.filter(({ sqlstate }) => sqlstate !== null && inconclusive.has(sqlstate))
    if (unknown.length === 0) return { kind: 'fails', text }
    const isStarting = unknown.every(({ sqlstate }) => sqlstate === sqlstates.cannot_connect_now)
    return { kind: 'unknown', text, isStarting }
  }
}

function textOf({ target: { host, address }, cause, errno, sqlstate, message }: TargetFailure & { target: Target }) {
  const where = host.host === address ? address : `${host.host} (${address})`
  const details = [cause, errno, sqlstate === null ? null : `SQLSTATE ${sqlstate}`, message]
  return `at ${where} port ${host.port} failed: ${details.filter((detail) => detail !== null).join(', ')}`
}

function keyOf({ address, host }: Target): string {
  return `${address} ${host.port}`
}
