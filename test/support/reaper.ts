/** Waits until its parent has ended, for any reason, then ends what tests left behind. Arguments: mark, directory. */
import { rmSync } from 'node:fs'
import { killAll, markedProcesses } from './marked-processes.ts'

const [mark, folder] = process.argv.slice(2)
if (mark === undefined || mark === '' || folder === undefined) throw new Error('usage: reaper.ts MARK FOLDER')

// Ctrl-C reaches the whole process group; the reaper must outlive the others.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
process.stdin.resume()
process.stdin.once('close', () => {
  killAll(markedProcesses(mark))
  rmSync(folder, { recursive: true, force: true })
})
