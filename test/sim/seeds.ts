/** Worlds by their seeds, in tests of so many each that the report shows progress. */
import { expect, test } from 'vitest'
import { SimulationFailure } from './court.ts'
import type { Court } from './court.ts'

export interface Playable {
  readonly court: Court
  run(): void
}

export class Seeds {
  /** What happened in any of the worlds so far. */
  readonly seen = new Set<string>()
  readonly #make: (seed: number) => Playable
  readonly #options: string

  /** `options` are those by which `npm run sim` plays such a world again. */
  constructor(make: (seed: number) => Playable, options = '') {
    this.#make = make
    this.#options = options
  }

  /** Null when nothing fails in it. */
  failureOf(seed: number): string | null {
    const world = this.#make(seed)
    try {
      world.run()
      return null
    } catch (error) {
      if (!(error instanceof SimulationFailure)) throw error
      return `${error.message}\nreplay: npm run sim -- ${this.#options}--seed ${seed} --verbose`
    } finally {
      for (const fact of world.court.seen) this.seen.add(fact)
    }
  }

  /** One test for each `perTest` of `count` worlds: "what 0 to 99 fact". */
  test(
    what: string,
    fact: string,
    { count, perTest, timeout }: { readonly count: number; readonly perTest: number; readonly timeout: number },
  ): void {
    for (let first = 0; first < count; first += perTest) {
      test(`${what} ${first} to ${first + perTest - 1} ${fact}`, { timeout }, () => {
        const seeds = Array.from({ length: perTest }, (_, index) => first + index)

        expect(seeds.flatMap((seed) => this.failureOf(seed) ?? [])).toEqual([])
      })
    }
  }
}
