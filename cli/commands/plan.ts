import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'
import { readDocument } from '../document.ts'
import { effectLines, fileOption, neededFile, planLines, warningLines, writeConfig } from '../write-config.ts'

export const plan = command(
  { operands: [], options: { ...fileOption, ...apiOptions } },
  async ({ options }, around) => {
    const file = neededFile(options.file)
    const api = new Api(options, around)
    const written = await writeConfig(api, await readDocument(file, around), { dryRun: true })
    if (options.json) {
      around.print(JSON.stringify(written, undefined, 2))
      return 0
    }
    const lines = planLines(written.plan)
    around.print(lines.length === 0 ? 'no changes' : lines.join('\n'))
    for (const line of [...effectLines(written), ...warningLines(written)]) around.print(line)
    return 0
  },
)
