import { wildcard } from '../../../shared/config/wildcard.ts'
import type { Timer } from '../../io/io.ts'
import type { PoolSpec } from '../../spec.ts'
import { AuthConnection } from '../auth/auth-connection.ts'
import type { ConnectionSource, UserQuery } from '../auth/auth-connection.ts'
import type { SaltedKeys } from '../auth/scram.ts'
import type { Context } from '../pool/context.ts'
import { targetsOf } from '../pool/target.ts'
import type { Target } from '../pool/target.ts'
import type { TlsHold } from '../wire/tls.ts'
import { Round } from './verdict.ts'
import type { Addresses, Attempt, Verdict } from './verdict.ts'

/** Runs auth_query once. The user that it finds does not matter. */
export class AuthTrial implements Attempt, ConnectionSource {
  readonly context: Context
  readonly spec: PoolSpec
  readonly tls: TlsHold | null
  readonly saltedKeys: SaltedKeys = new Map()
  readonly database: string
  readonly #round: Round
  readonly #report: (verdict: Verdict) => void
  #timer: Timer
  #target: Target | null = null
  #connection: AuthConnection | null = null
  #over = false

  constructor(context: Context, spec: PoolSpec, addresses: Addresses, report: (verdict: Verdict) => void) {
    this.context = context
    this.spec = spec
    this.tls = spec.serverTls === undefined ? null : context.tls.acquire(spec.serverTls)
    this.database = spec.settings.authDatabase || spec.serverDatabase
    this.#round = new Round(targetsOf(spec), addresses)
    this.#report = report
    this.#timer = context.io.after(0, () => this.#next())
  }

  get closed(): boolean {
    return this.#over
  }

  #next(): void {
    this.#target = this.#round.next()
    if (this.#target === null) {
      const { authUser } = this.spec.settings
      this.#conclude(this.#round.verdict(`auth_query as ${authUser} in database ${this.database}`))
      return
    }
    this.#connection = new AuthConnection(this, this.#target)
  }

  connected(): void {
    const { io } = this.context
    const { authQueryTimeoutMs, authUser } = this.spec.settings
    const query: UserQuery = {
      user: this.spec.user === wildcard ? authUser : this.spec.user,
      askedAtMs: io.nowMs(),
      waiting: new Set(),
      retried: false,
      connection: null,
      timer: null,
      outcome: null,
    }
    this.#timer.cancel()
    this.#timer = io.after(authQueryTimeoutMs, () => this.failed(query, 'no response within auth_query_timeout'))
    this.#connection?.ask(query)
  }

  answered(): void {
    if (this.#target !== null) this.#conclude(this.#round.serves(this.#target))
  }

  failed(_query: UserQuery, reason: string): void {
    this.#failed(reason, null)
  }

  dispatch(): void {}

  ended(connection: AuthConnection, reason: string | null, sqlstate: string | null): void {
    if (connection === this.#connection && reason !== null) this.#failed(reason, sqlstate)
  }

  #failed(message: string, sqlstate: string | null): void {
    if (this.#over || this.#target === null) return
    const connection = this.#connection
    this.#connection = null
    connection?.close()
    this.#timer.cancel()
    this.#round.failed(this.#target, { cause: 'auth_query', errno: null, sqlstate, message })
    this.#next()
  }

  #conclude(verdict: Verdict): void {
    if (this.#over) return
    this.end()
    this.#report(verdict)
  }

  end(): void {
    if (this.#over) return
    this.#over = true
    this.#timer.cancel()
    this.#connection?.close()
    this.tls?.release()
  }
}
