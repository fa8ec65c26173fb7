import { diffSchema } from '../../shared/api.ts'
import type { Diff } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { command } from '../command.ts'
import { planLines } from '../write-config.ts'

export const diff = command(
  { operands: ['N', 'M'], options: { ...apiOptions } },
  async ({ operands: [n = '', m = ''], options }, around) => {
    const from = wholeNumber('N', n, 0, Number.MAX_SAFE_INTEGER)
    const to = wholeNumber('M', m, 1, Number.MAX_SAFE_INTEGER)
    const found = await new Api(options, around).inFleet(diffSchema, `/versions/${to}/diff?against=${from}`)
    if (options.json) around.print(JSON.stringify(found, undefined, 2))
    else if (found.changes.length === 0) around.print('no changes')
    else around.print([...found.changes.map(line), '', ...planLines(found.plan)].join('\n'))
    return 0
  },
)

function line({ path, before, after }: Diff['changes'][number]): string {
  if (before === undefined) return `+ ${path} = ${JSON.stringify(after)}`
  if (after === undefined) return `- ${path} = ${JSON.stringify(before)}`
  return `~ ${path} = ${JSON.stringify(before)} -> ${JSON.stringify(after)}`
}
