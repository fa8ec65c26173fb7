import { proxiesSchema } from '../../shared/api.ts'
import type { Proxy } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { notesOf } from '../await-proxies.ts'
import { command } from '../command.ts'
import { shortTime, table } from '../table.ts'

const header = ['PROXY', 'STATE', 'RUNS', 'CLIENTS', 'WAITING', 'SERVERS', 'LISTENS', 'LAST SEEN', 'REASON']

export const proxies = command({ operands: [], options: { ...apiOptions } }, async ({ options }, around) => {
  const listed = await new Api(options, around).inFleet(proxiesSchema, '/proxies')
  if (options.json) around.print(JSON.stringify(listed, undefined, 2))
  else around.print(table(header, listed.proxies.map(row)))
  return 0
})

function row(proxy: Proxy): (string | number | null)[] {
  const { id, state, applied, stats, listen, last_seen_at } = proxy
  const numbers = stats === null ? [null, null, null] : [stats.clients, stats.waiting, stats.servers]
  const runs = applied === null ? null : `v${applied.version}`
  return [id, state, runs, ...numbers, listen, shortTime(last_seen_at), notesOf(proxy)]
}
