import { Api, apiOptions } from '../api.ts'
import { awaitProxies, waitOptions } from '../await-proxies.ts'
import { command } from '../command.ts'
import { readDocument } from '../document.ts'
import {
  checkedIfMatch,
  fileOption,
  ifMatchOption,
  neededFile,
  planLines,
  warningLines,
  writeConfig,
} from '../write-config.ts'

const options = {
  ...fileOption,
  ...ifMatchOption,
  message: { type: 'string', short: 'm', help: 'comment for the list of versions' },
  ...waitOptions,
  ...apiOptions,
} as const

export const apply = command({ operands: [], options }, async ({ options }, around) => {
  const file = neededFile(options.file)
  const ifMatch = checkedIfMatch(options['if-match'])
  const api = new Api(options, around)
  const written = await writeConfig(api, await readDocument(file, around), {
    ifMatch,
    message: options.message,
    dryRun: false,
  })
  if (options.json) around.print(JSON.stringify(written, undefined, 2))
  else if (!written.created) around.print(`v${written.version} is already current: no changes`)
  else around.print([`v${written.version} is now current`, ...planLines(written.plan)].join('\n'))
  if (!options.json) for (const line of warningLines(written)) around.print(line)
  return options.wait ? awaitProxies(api, written.version, options.timeout, around) : 0
})
