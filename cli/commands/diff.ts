import { diffSchema } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { command } from '../command.ts'
import { changeLine } from '../rebase.ts'
import { planLines } from '../write-config.ts'

export const diff = command(
  { operands: ['N', 'M'], options: { ...apiOptions } },
  async ({ operands: [n = '', m = ''], options }, around) => {
    const from = wholeNumber('N', n, 0, Number.MAX_SAFE_INTEGER)
    const to = wholeNumber('M', m, 1, Number.MAX_SAFE_INTEGER)
    const found = await new Api(options, around).inFleet(diffSchema, `/versions/${to}/diff?against=${from}`)
    if (options.json) around.print(JSON.stringify(found, undefined, 2))
    else if (found.changes.length === 0) around.print('no changes')
    else around.print([...found.changes.map(changeLine), '', ...planLines(found.plan)].join('\n'))
    return 0
  },
)
