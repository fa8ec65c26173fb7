/** For the group `unit`, which answers in seconds: a test that starts a process belongs to another group. */
import childProcess from 'node:child_process'
import { syncBuiltinESMExports } from 'node:module'

const starters = ['exec', 'execFile', 'execFileSync', 'execSync', 'fork', 'spawn', 'spawnSync'] as const

for (const name of starters) {
  const refuse = (): never => {
    throw new Error(`a unit test starts no process (${name}): see the groups in vitest.config.ts`)
  }
  Object.assign(childProcess, { [name]: refuse })
}
syncBuiltinESMExports()
