import { fleetsSchema } from '../../shared/api.ts'
import type { Fleet } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'
import { shortTime, table } from '../table.ts'

export const fleetList = command({ operands: [], options: { ...apiOptions } }, async ({ options }, around) => {
  const listed = await new Api(options, around).call(fleetsSchema, '/v1/fleets')
  if (options.json) around.print(JSON.stringify(listed, undefined, 2))
  else around.print(table(['FLEET', 'VERSION', 'PROXIES', 'ORDERS', 'CREATED'], listed.fleets.map(row)))
  return 0
})

function row({ name, version, proxies, orders, created_at }: Fleet): (string | number | null)[] {
  const states = Object.entries(proxies).filter(([, count]) => count > 0)
  return [
    name,
    `v${version}`,
    states.map(([state, count]) => `${count} ${state}`).join(', ') || '0',
    orders,
    shortTime(created_at),
  ]
}
