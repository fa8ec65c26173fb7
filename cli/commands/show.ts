import { stringify } from 'smol-toml'
import { versionDocumentSchema } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { command } from '../command.ts'

/** The output can be applied again unchanged. */
export const show = command(
  { operands: ['N'], options: { ...apiOptions } },
  async ({ operands: [n = ''], options }, around) => {
    const version = wholeNumber('N', n, 1, Number.MAX_SAFE_INTEGER)
    const { document } = await new Api(options, around).inFleet(versionDocumentSchema, `/versions/${version}`)
    around.print(options.json ? JSON.stringify(document, undefined, 2) : stringify(document).trimEnd())
    return 0
  },
)
