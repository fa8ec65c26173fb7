import type { Cause } from '../../../shared/causes.ts'

type Counts = Partial<Record<Cause, number>>

/** Closed servers of a database by cause, for each user that they are shown under. They outlive their sources. */
export class ClosedServers {
  readonly #byUser = new Map<string, Counts>()

  count(user: string, cause: Cause): void {
    const counts = this.#byUser.get(user) ?? {}
    counts[cause] = (counts[cause] ?? 0) + 1
    this.#byUser.set(user, counts)
  }

  of(user: string): Readonly<Counts> {
    return this.#byUser.get(user) ?? {}
  }

  forget(user: string): void {
    this.#byUser.delete(user)
  }
}
