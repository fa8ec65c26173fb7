import { ControlCannotStart, startControl } from '../../control/node.ts'
import type { RunningControl } from '../../control/node.ts'
import { wholeNumber } from '../arguments.ts'
import { command } from '../command.ts'
import { Failure } from '../failure.ts'

const options = {
  host: { type: 'string', value: 'HOST', help: 'address to listen on (FLOTILLA_CONTROL_HOST, 127.0.0.1)' },
  port: { type: 'string', value: 'N', help: 'port to listen on (FLOTILLA_CONTROL_PORT, 8080)' },
  data: { type: 'string', value: 'DIR', help: 'data directory (FLOTILLA_DATA, flotilla-control)' },
} as const

/**
 * The operator's token and the key of secrets are read from the environment only (FLOTILLA_TOKEN, FLOTILLA_SECRET_KEY),
 * because other users can read a command line.
 */
export const control = command({ operands: [], options }, async ({ options }, { environment, say, stop }) => {
  const operatorToken = environment['FLOTILLA_TOKEN'] ?? ''
  if (operatorToken === '') throw new Failure("FLOTILLA_TOKEN must be set to the operator's token")
  const host = options.host ?? environment['FLOTILLA_CONTROL_HOST'] ?? '127.0.0.1'
  const port = wholeNumber('--port', options.port ?? environment['FLOTILLA_CONTROL_PORT'] ?? '8080', 0, 65535)
  const data = options.data ?? environment['FLOTILLA_DATA'] ?? 'flotilla-control'
  const running = await started({ host, port, data, operatorToken, secretKey: environment['FLOTILLA_SECRET_KEY'] })
  say(`control listens on ${host} port ${running.port}, data directory ${data}`)
  if (!stop.aborted) await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }))
  await running.close()
  return 0
})

async function started(options: Parameters<typeof startControl>[0]): Promise<RunningControl> {
  try {
    return await startControl(options)
  } catch (cause) {
    if (cause instanceof ControlCannotStart) throw new Failure(cause.message, { cause })
    throw cause
  }
}
