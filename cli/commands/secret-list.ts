import { secretsSchema } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'
import { shortTime, table } from '../table.ts'

export const secretList = command({ operands: [], options: { ...apiOptions } }, async ({ options }, around) => {
  const listed = await new Api(options, around).inFleet(secretsSchema, '/secrets')
  if (options.json) around.print(JSON.stringify(listed, undefined, 2))
  else {
    const rows = listed.secrets.map(({ name, version, kind, created_at, used_by }) => [
      name,
      version,
      kind,
      shortTime(created_at),
      used_by.map((use) => (use.version === version ? use.path : `${use.path} (version ${use.version})`)).join(', '),
    ])
    around.print(table(['NAME', 'VERSION', 'KIND', 'CREATED', 'USED BY'], rows))
  }
  return 0
})
