import { stringify } from 'smol-toml'
import { versionDocumentSchema } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { command } from '../command.ts'
import { originLine } from '../document.ts'

/** The output can be applied again, as it is or changed: its first line says which version it replaces. */
export const show = command(
  { operands: ['N'], options: { ...apiOptions } },
  async ({ operands: [n = ''], options }, around) => {
    const version = wholeNumber('N', n, 1, Number.MAX_SAFE_INTEGER)
    const api = new Api(options, around)
    const { document } = await api.inFleet(versionDocumentSchema, `/versions/${version}`)
    const { fleet } = api
    if (options.json) around.print(JSON.stringify(document, undefined, 2))
    else around.print(`${originLine({ fleet, version })}\n\n${stringify(document).trimEnd()}`)
    return 0
  },
)
