import { fleetSchema } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'

export const fleetCreate = command(
  { operands: ['NAME'], options: { ...apiOptions } },
  async ({ operands: [name = ''], options }, around) => {
    const api = new Api(options, around)
    const fleet = await api.call(fleetSchema, `/v1/fleets/${encodeURIComponent(name)}`, { method: 'PUT' })
    around.print(options.json ? JSON.stringify(fleet, undefined, 2) : `fleet ${fleet.name} is at v${fleet.version}`)
    return 0
  },
)
