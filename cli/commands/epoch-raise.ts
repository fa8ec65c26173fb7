import { ControlCannotStart, raiseEpoch } from '../../control/node.ts'
import { command } from '../command.ts'
import { Failure } from '../failure.ts'

const options = {
  data: { type: 'string', value: 'DIR', help: 'the data folder of control (FLOTILLA_DATA, flotilla-control)' },
} as const

/**
 * Proxies take no version below the one they run, unless the epoch has risen. It works on the file, not by the API, so
 * that nobody with a token can move a fleet back.
 */
export const epochRaise = command({ operands: [], options }, async ({ options }, { environment, print }) => {
  const data = options.data ?? environment['FLOTILLA_DATA'] ?? 'flotilla-control'
  try {
    print(`the epoch is ${await raiseEpoch(data)} now: proxies take the versions of this store at their next poll`)
  } catch (cause) {
    if (cause instanceof ControlCannotStart) throw new Failure(cause.message, { cause })
    throw cause
  }
  return 0
})
