import { ControlCannotStart, raiseEpoch } from '../../control/node.ts'
import { command } from '../command.ts'
import { Failure } from '../failure.ts'

const options = {
  data: { type: 'string', value: 'DIR', help: "control's data directory (FLOTILLA_DATA, flotilla-control)" },
} as const

/**
 * Proxies accept no version older than the one they run unless the epoch has risen. This works on the file, not over
 * the API, so that no token can move a fleet back.
 */
export const epochRaise = command({ operands: [], options }, async ({ options }, { environment, print }) => {
  const data = options.data ?? environment['FLOTILLA_DATA'] ?? 'flotilla-control'
  try {
    print(`the epoch is now ${await raiseEpoch(data)}: proxies follow this store from their next poll`)
  } catch (cause) {
    if (cause instanceof ControlCannotStart) throw new Failure(cause.message, { cause })
    throw cause
  }
  return 0
})
