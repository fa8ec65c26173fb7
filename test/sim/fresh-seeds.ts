/** Seeds that no earlier commit has run: fixed seeds alone show only that the same worlds still pass. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'

/** Seeds of one commit. */
export const freshSeeds = 300

/** Seeds have 32 bits. The fixed ones, and those tried by hand, lie below. */
const firstOfAll = 2 ** 31

const blocks = Math.floor(2 ** 31 / freshSeeds)

/** The first of the `freshSeeds` seeds of a commit, whose id is given in hex. */
export function firstSeedOf(commit: string): number {
  return firstOfAll + (Number.parseInt(commit.slice(0, 12), 16) % blocks) * freshSeeds
}

/** The id of the commit that is checked out; without a repository a random one. */
export function currentCommit(): string {
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], {
      cwd: import.meta.dirname,
      encoding: 'utf8',
      stdio: 'pipe',
    }).trim()
  } catch {
    return randomBytes(20).toString('hex')
  }
}
