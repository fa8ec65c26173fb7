import { proxyProblems } from '../../shared/wire.ts'
import type { ProxyProblem, ReportedProblem } from '../../shared/wire.ts'

/**
 * What is wrong with a proxy, apart from its pools: told in reports, on /metrics and by /readyz. A problem has one source,
 * which sets and clears it, or several that are named.
 */
export class Problems {
  readonly #now: () => Date
  /** By code and source, in order of appearance. */
  readonly #present = new Map<ProxyProblem, Map<string, { message: string; since: string }>>()
  readonly #onChange: () => void

  constructor(now: () => Date, onChange: () => void) {
    this.#now = now
    this.#onChange = onChange
  }

  /** With null, `source` has none of this kind any more. */
  set(code: ProxyProblem, source: string, message: string | null): void {
    const known = this.#present.get(code)
    if (message === null) {
      if (known?.delete(source) !== true) return
      if (known.size === 0) this.#present.delete(code)
      this.#onChange()
      return
    }
    const before = known?.get(source)
    if (before?.message === message) return
    const sources = known ?? new Map<string, { message: string; since: string }>()
    this.#present.set(code, sources)
    sources.set(source, { message, since: before?.since ?? this.#now().toISOString() })
    this.#onChange()
  }

  /** One of each code: the one that is there for longest. */
  get list(): ReportedProblem[] {
    return proxyProblems.flatMap((code) => {
      const [first] = this.#present.get(code)?.values() ?? []
      return first === undefined ? [] : [{ code, ...first }]
    })
  }
}
