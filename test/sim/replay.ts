/**
 * `npm run sim -- --seed N [--verbose]` replays one simulated world, `--from N --count M` runs many; with `--workers` they
 * have two workers.
 */
import { parseArgs } from 'node:util'

import { SimulationFailure } from './checker.ts'
import { WorkersWorld } from './workers-world.ts'
import { World } from './world.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    from: { type: 'string', default: '0' },
    count: { type: 'string' },
    workers: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
})

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
process.exitCode = failures === 0 ? 0 : 1

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
