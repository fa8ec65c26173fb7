/** The simulator finds each mutant of the engine, in the worlds where it can show. */
import { expect, test } from 'vitest'
import { findings, mutants, worldsMax } from './mutants.ts'

for (const mutant of Object.keys(mutants)) {
  test(`found: ${mutant}`, { timeout: 240_000 }, () => {
    const [found] = findings(mutant)

    expect(found, `no world of ${worldsMax} fails`).toBeDefined()
  })
}
