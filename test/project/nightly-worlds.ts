/**
 * `npm run sim:nightly`: many worlds of the simulator, of one worker and of two, and all mutants, side by side. As with the fresh seeds of
 * `npm test`, which ones they are follows from the commit. What fails is printed by its seed.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { currentCommit } from '../sim/fresh-seeds.ts'

/** Above the seeds that are fixed or tried by hand, below the fresh ones. */
const firstOfAll = 2 ** 30
const runs = [
  { options: [], count: 20_000 },
  { options: ['--workers'], count: 4_000 },
  // How easily each mutant is found; there are no worlds to choose.
  { options: ['--mutants'], count: 0 },
]

const replay = join(import.meta.dirname, '../sim/replay.ts')
const from = firstOfAll + (Number.parseInt(currentCommit().slice(0, 12), 16) % 2 ** 29)

const codes = await Promise.all(
  runs.map(async ({ options, count }) => {
    const args = [replay, ...options, '--from', String(from), '--count', String(count)]
    process.stdout.write(`npm run sim -- ${args.slice(1).join(' ')}\n`)
    const [code] = (await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'exit')) as [number | null]
    return code
  }),
)
process.exitCode = codes.every((code) => code === 0) ? 0 : 1
