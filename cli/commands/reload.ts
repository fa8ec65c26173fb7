import { reloadSchema } from '../../shared/api.ts'
import type { Reload } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { allowedOffline, exitCode, outcomeOf, refusalText, waitOptions } from '../await-proxies.ts'
import type { Outcome } from '../await-proxies.ts'
import { command } from '../command.ts'
import { table } from '../table.ts'

/** Maximum `wait` that control accepts. */
const waitMaxS = 60

/** With --wait it ends like `apply --wait`. */
export const reload = command(
  { operands: [], options: { ...waitOptions, ...apiOptions } },
  async ({ options }, around) => {
    const offline = allowedOffline(options)
    const wait = wholeNumber('--timeout', options.timeout ?? String(waitMaxS), 1, waitMaxS)
    const answer = await new Api(options, around).inFleet(reloadSchema, '/reload', {
      method: 'POST',
      body: options.wait ? { wait } : {},
    })
    if (options.json) around.print(JSON.stringify(answer, undefined, 2))
    else around.print(table(['PROXY', 'OUTCOME', 'STATE', 'RUNS', 'REASON'], answer.proxies.map(row)))
    return options.wait ? exitCode(answer.proxies.map(reloadOutcomeOf), offline, around.say) : 0
  },
)

function reloadOutcomeOf({ outcome, state }: Reload['proxies'][number]): Outcome {
  switch (outcome) {
    case 'failed':
    case 'offline':
      return { kind: outcome }
    case 'timeout':
    case 'hinted':
      return { kind: 'waits', late: 'not_reached' }
    case 'applied':
      return outcomeOf({ state })
    default:
      return outcome satisfies never
  }
}

function row({ id, outcome, state, applied, error, reasons }: Reload['proxies'][number]): (string | null)[] {
  const why = error === null ? reasons.join('; ') : refusalText(error)
  return [id, outcome, state, applied === null ? null : `v${applied.version}`, why === '' ? null : why]
}
