import { z } from 'zod'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'

export const tokenRevoke = command(
  { operands: ['ID'], options: { ...apiOptions } },
  async ({ operands: [id = ''], options }, around) => {
    const api = new Api(options, around)
    const answer = await api.inFleet(z.unknown(), `/tokens/${encodeURIComponent(id)}`, { method: 'DELETE' })
    around.print(options.json ? JSON.stringify(answer ?? {}, undefined, 2) : `token ${id} is revoked`)
    return 0
  },
)
