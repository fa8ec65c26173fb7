import { ControlCannotStart, startControl } from '../../control/node.ts'
import type { RunningControl } from '../../control/node.ts'
import type { Network } from '../../shared/config/network.ts'
import { parseNetwork } from '../../shared/registered-address.ts'
import { wholeNumber } from '../arguments.ts'
import { command } from '../command.ts'
import { Failure, WrongUsage } from '../failure.ts'

const options = {
  host: { type: 'string', value: 'HOST', help: 'address to listen on (FLOTILLA_CONTROL_HOST, 127.0.0.1)' },
  port: { type: 'string', value: 'N', help: 'port to listen on (FLOTILLA_CONTROL_PORT, 8080)' },
  'proxy-networks': {
    type: 'string',
    value: 'CIDR,…',
    help:
      'networks in which control may send requests to proxies, such as 10.0.0.0/8,fdaa::/16 ' +
      '(FLOTILLA_PROXY_NETWORKS, all but link-local and metadata addresses)',
  },
  data: { type: 'string', value: 'DIR', help: 'where the SQLite file is kept (FLOTILLA_DATA, flotilla-control)' },
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
  const proxyNetworks = networksOf(options['proxy-networks'] ?? environment['FLOTILLA_PROXY_NETWORKS'])
  const secretKey = environment['FLOTILLA_SECRET_KEY']
  const running = await started({ host, port, data, operatorToken, secretKey, proxyNetworks })
  say(`control listens on ${host} port ${running.port} and keeps its data in ${data}`)
  if (!stop.aborted) await new Promise((resolve) => stop.addEventListener('abort', resolve, { once: true }))
  await running.close()
  return 0
})

function networksOf(text: string | undefined): Network[] | undefined {
  if (text === undefined || text === '') return undefined
  return text.split(',').map((part) => {
    const network = parseNetwork(part.trim())
    if (network !== undefined) return network
    throw new WrongUsage(`--proxy-networks: "${part.trim()}" is not a network such as 10.0.0.0/8 or fdaa::/16`)
  })
}

async function started(options: Parameters<typeof startControl>[0]): Promise<RunningControl> {
  try {
    return await startControl(options)
  } catch (cause) {
    if (cause instanceof ControlCannotStart) throw new Failure(cause.message, { cause })
    throw cause
  }
}
