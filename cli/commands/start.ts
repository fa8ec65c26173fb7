import { command } from '../command.ts'
import { wholeNumber } from '../arguments.ts'
import { runEverything } from '../start/everything.ts'

const options = {
  data: { type: 'string', value: 'DIR', help: 'data directory (.flotilla)' },
  'control-port': { type: 'string', value: 'N', help: 'port of control (8080)' },
  'proxy-port': { type: 'string', value: 'N', help: 'port of the first proxy; the second listens on N+1 (6432)' },
  postgres: { type: 'string', value: 'URL', help: 'an existing server instead of the embedded one' },
} as const

export const start = command({ operands: [], options }, async ({ options }, around) => {
  // A closed terminal is handled like Ctrl-C.
  process.once('SIGHUP', () => process.kill(process.pid, 'SIGTERM'))
  await runEverything(
    {
      dir: options.data ?? '.flotilla',
      controlPort: wholeNumber('--control-port', options['control-port'] ?? '8080', 1, 65535),
      proxyPort: wholeNumber('--proxy-port', options['proxy-port'] ?? '6432', 1, 65534),
      postgresUrl: options.postgres,
    },
    around,
  )
  return 0
})
