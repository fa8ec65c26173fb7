/** `npm run bench`: what this proxy and this control plane cost, the proxy beside others where there are any. */
import { Failure, WrongUsage } from '../cli/failure.ts'
import { runCleanups } from '../test/support/cleanup.ts'
import { benchControl } from './control.ts'
import { benchEngine } from './engine.ts'
import { benchGarbage } from './garbage.ts'
import { readOptions, usage } from './options.ts'
import { benchPooler } from './pooler.ts'
import { benchStatements } from './statements.ts'

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void runCleanups().then(() => process.exit(130)))
}

try {
  const options = readOptions(process.argv.slice(2))
  if (options.what === 'control') await benchControl(options)
  else if (options.what === 'engine') benchEngine()
  else if (options.what === 'garbage') await benchGarbage(options)
  else if (options.what === 'statements') await benchStatements(options)
  else await benchPooler(options)
} catch (error) {
  if (!(error instanceof WrongUsage) && !(error instanceof Failure)) throw error
  console.error(error instanceof WrongUsage ? `${error.message}\n${usage}` : error.message)
  process.exitCode = error instanceof WrongUsage ? 2 : 1
} finally {
  for (const failure of await runCleanups()) console.error(failure)
}
