import { readFileSync } from 'node:fs'
import { proxyOptions, proxySettings, runProxy, UsageError } from '../../proxy/main.ts'
import type { OptionSpec } from '../arguments.ts'
import type { Command } from '../command.ts'
import { WrongUsage } from '../failure.ts'

/** The proxy parses its own options; they are only listed here. */
export const proxy: Command = {
  operands: [],
  options: Object.fromEntries(
    Object.entries(proxyOptions).map(([name, { value, help, variable }]): [string, OptionSpec] => [
      name,
      { type: 'string', value, help: `${help} (${variable})` },
    ]),
  ),
  async run(args, { environment }) {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string
    }
    let settings
    try {
      settings = proxySettings(args, environment, version)
    } catch (error) {
      if (error instanceof UsageError) throw new WrongUsage(error.message)
      throw error
    }
    return (await runProxy(settings)) === 0 ? 0 : 1
  },
}
