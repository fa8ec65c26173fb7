import { tokenCreatedSchema } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'

/** Prints only the token to standard output, for scripts; it is never shown again. */
export const tokenCreate = command(
  { operands: ['NAME'], options: { ...apiOptions } },
  async ({ operands: [name = ''], options }, around) => {
    const api = new Api(options, around)
    const created = await api.inFleet(tokenCreatedSchema, '/tokens', { method: 'POST', body: { name } })
    if (options.json) {
      around.print(JSON.stringify(created, undefined, 2))
      return 0
    }
    around.say(`token ${created.id} (${created.name}) for proxies of fleet ${api.fleet}; it is not shown again:`)
    around.print(created.token)
    return 0
  },
)
