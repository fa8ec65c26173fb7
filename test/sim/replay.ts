/**
 * `npm run sim -- --seed N [--verbose]` replays one simulated world, `--from N --count M` runs many; with `--workers` they
 * have two workers. `npm run sim -- --mutants [--only TEXT]` tells how easily each mutant is found.
 */
import { parseArgs } from 'node:util'

import { SimulationFailure } from './checker.ts'
import { findings, mutants, worldsMax } from './mutants.ts'
import type { Found } from './mutants.ts'
import { WorkersWorld } from './workers-world.ts'
import { World } from './world.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    from: { type: 'string', default: '0' },
    count: { type: 'string' },
    workers: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
    mutants: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
  },
})

process.exitCode = (values.mutants ? lucky(values.only) : failed()) === 0 ? 0 : 1

/** Runs the worlds; returns how many of them failed. */
function failed(): number {
  const first = Number(values.seed ?? values.from)
  const count = Number(values.count ?? (values.seed === undefined ? 2000 : 1))
  const Kind = values.workers ? WorkersWorld : World
  let failures = 0
  for (let seed = first; seed < first + count; seed++) {
    try {
      new Kind(seed, values.verbose ? say : null).run()
    } catch (error) {
      if (!(error instanceof SimulationFailure)) throw error
      failures++
      say(error.message)
      if (count === 1) say(String((error.cause instanceof Error ? error.cause : error).stack))
    }
  }
  say(`${count} worlds from seed ${first}, ${failures} failed`)
  return failures
}

/** Returns how many mutants were found by luck: by fewer than `finds` worlds in a third of those that are searched. */
function lucky(only: string): number {
  const finds = 3
  let count = 0
  for (const mutant of Object.keys(mutants).filter((name) => name.includes(only))) {
    const beganMs = performance.now()
    const found: Found[] = []
    for (const one of findings(mutant, worldsMax / 3)) if (found.push(one) === finds) break
    const at = found.map(({ seed, worlds }) => `${worlds} (seed ${seed})`).join(', ')
    const secs = Math.round((performance.now() - beganMs) / 1000)
    if (found.length < finds) count++
    say(`${found.length < finds ? 'LUCK ' : ''}${mutant}: in worlds ${at} of ${worldsMax}, ${secs} s`)
  }
  say(`${count} mutants that are found by luck`)
  return count
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
