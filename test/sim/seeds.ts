/** Runs the worlds of a range of seeds, in several tests so that the report shows progress. */
import { beforeAll, expect, test } from 'vitest'
import { SimulationFailure } from './checker.ts'
import type { Checker } from './checker.ts'
import { currentCommit, firstSeedOf } from './fresh-seeds.ts'

export interface Playable {
  readonly checker: Checker
  run(): void
}

interface Range {
  readonly first: number
  readonly count: number
  readonly perTest: number
  /** Of one test, in ms. */
  readonly timeout: number
}

export class Seeds {
  /** What has happened in the worlds so far. */
  readonly seen = new Set<string>()
  readonly #make: (seed: number) => Playable
  readonly #options: string

  /** `options` of `npm run sim` that replay such a world. */
  constructor(make: (seed: number) => Playable, options = '') {
    this.#make = make
    this.#options = options
  }

  /** Null when the world of this seed passes. */
  failureOf(seed: number): string | null {
    const world = this.#make(seed)
    try {
      world.run()
      return null
    } catch (error) {
      if (!(error instanceof SimulationFailure)) throw error
      return `${error.message}\nreplay: npm run sim -- ${this.#options}--seed ${seed} --verbose`
    } finally {
      for (const fact of world.checker.seen) this.seen.add(fact)
    }
  }

  /** One test for each `perTest` worlds: "what 0 to 99 fact". */
  test(what: string, fact: string, { first, count, perTest, timeout }: Range): void {
    for (let from = first; from < first + count; from += perTest) {
      test(`${what} ${from} to ${from + perTest - 1} ${fact}`, { timeout }, () => {
        const seeds = Array.from({ length: perTest }, (_, index) => from + index)

        expect(seeds.flatMap((seed) => this.failureOf(seed) ?? [])).toEqual([])
      })
    }
  }

  /** The same for seeds that no earlier commit has run; prints the command that runs them again. */
  testFresh(what: string, fact: string, { count, perTest, timeout }: Omit<Range, 'first'>): void {
    const commit = currentCommit()
    const first = firstSeedOf(commit)
    beforeAll(() => {
      const replay = `npm run sim -- ${this.#options}--from ${first} --count ${count}`
      process.stdout.write(`${count} ${what} of commit ${commit.slice(0, 12)}: ${replay}\n`)
    })
    this.test(what, fact, { first, count, perTest, timeout })
  }
}
