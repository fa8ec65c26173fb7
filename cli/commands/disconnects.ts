import { setTimeout as sleep } from 'node:timers/promises'
import { disconnectsSchema } from '../../shared/api.ts'
import type { ReceivedDisconnect } from '../../shared/disconnect.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'
import { shortTime, table } from '../table.ts'

const filters = ['pool', 'host', 'cause', 'since'] as const

const options = {
  pool: { type: 'string', value: 'NAME', help: 'only connections of this pool' },
  host: { type: 'string', value: 'NAME', help: 'only connections to this host' },
  cause: { type: 'string', value: 'CAUSE', help: 'only connections with this cause, for example keepalive_timeout' },
  since: {
    type: 'string',
    value: 'TIME',
    help: 'only connections lost after this time, for example 2026-11-23T19:00:00Z',
  },
  follow: { type: 'boolean', short: 'f', help: 'keep printing new ones until Ctrl-C' },
  ...apiOptions,
} as const

/** Polling interval of --follow. */
const askAgainMs = 1_000

const header = ['AT', 'PROXY', 'POOL', 'SERVER', 'CAUSE', 'STATE', 'IDLE', 'CLIENT HURT', 'DETAIL']

export const disconnects = command({ operands: [], options }, async ({ options }, around) => {
  const query = new URLSearchParams()
  for (const filter of filters) if (options[filter] !== undefined) query.set(filter, options[filter])
  const api = new Api(options, around)
  const ask = () => api.inFleet(disconnectsSchema, `/disconnects?${query.toString()}`)
  const first = await ask()
  if (!options.follow) {
    if (options.json) around.print(JSON.stringify(first, undefined, 2))
    else around.print(table(header, first.disconnects.map(row)))
    return 0
  }
  // Followed, the newest stand last, as in a log.
  const show = (events: readonly ReceivedDisconnect[]) => {
    for (const event of events) around.print(options.json ? JSON.stringify(event) : row(event).join('  '))
  }
  show(first.disconnects.toReversed())
  query.set('follow', first.follow)
  for (;;) {
    try {
      await sleep(askAgainMs, undefined, { signal: around.stop })
      const next = await ask()
      query.set('follow', next.follow)
      show(next.disconnects)
    } catch (error) {
      if (around.stop.aborted) return 0
      throw error
    }
  }
})

function row(event: ReceivedDisconnect): string[] {
  const { at, proxy, pool, user, host, port, cause, state, idle_ms, client_hurt, sqlstate, errno, message } = event
  return [
    shortTime(at) ?? '',
    proxy,
    `${pool}/${user}`,
    `${host}:${port}`,
    cause,
    state,
    `${Math.round(idle_ms / 1000)}s`,
    client_hurt ? 'yes' : 'no',
    [sqlstate, errno, message].filter((part) => part !== null).join(' ') || '-',
  ]
}
