import { tokensSchema } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'
import { shortTime, table } from '../table.ts'

export const tokenList = command({ operands: [], options: { ...apiOptions } }, async ({ options }, around) => {
  const listed = await new Api(options, around).inFleet(tokensSchema, '/tokens')
  if (options.json) around.print(JSON.stringify(listed, undefined, 2))
  else {
    const rows = listed.tokens.map(({ id, name, created_at, revoked_at }) => [
      id,
      name,
      shortTime(created_at),
      shortTime(revoked_at),
    ])
    around.print(table(['ID', 'NAME', 'CREATED', 'REVOKED'], rows))
  }
  return 0
})
