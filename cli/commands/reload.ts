import { reloadSchema } from '../../shared/api.ts'
import type { Reload } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { refusalText, waitOptions } from '../await-proxies.ts'
import { command } from '../command.ts'
import { table } from '../table.ts'

/** Maximum `wait` that control accepts. */
const waitMaxS = 60

/** With --wait it fails if a proxy rejected the version or did not respond in time. */
export const reload = command(
  { operands: [], options: { ...waitOptions, ...apiOptions } },
  async ({ options }, around) => {
    const wait = wholeNumber('--timeout', options.timeout ?? String(waitMaxS), 1, waitMaxS)
    const answer = await new Api(options, around).inFleet(reloadSchema, '/reload', {
      method: 'POST',
      body: options.wait ? { wait } : {},
    })
    if (options.json) around.print(JSON.stringify(answer, undefined, 2))
    else around.print(table(['PROXY', 'OUTCOME', 'RUNS', 'ERROR'], answer.proxies.map(row)))
    return answer.proxies.some(({ outcome }) => outcome === 'failed' || outcome === 'timeout') ? 1 : 0
  },
)

function row({ id, outcome, applied, error }: Reload['proxies'][number]): (string | null)[] {
  return [id, outcome, applied === null ? null : `v${applied.version}`, error === null ? null : refusalText(error)]
}
