import { proxyDetailSchema } from '../../shared/api.ts'
import type { ProxyDetail } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { notesOf } from '../await-proxies.ts'
import { command } from '../command.ts'
import { shortTime, table } from '../table.ts'

const options = {
  boot: { type: 'string', value: 'BOOT', help: 'of several processes with this id, the one with this boot' },
  ...apiOptions,
} as const

export const proxyShow = command({ operands: ['ID'], options }, async ({ operands: [id = ''], options }, around) => {
  const query = options.boot === undefined ? '' : `?boot=${encodeURIComponent(options.boot)}`
  const path = `/proxies/${encodeURIComponent(id)}${query}`
  const proxy = await new Api(options, around).inFleet(proxyDetailSchema, path)
  if (options.json) around.print(JSON.stringify(proxy, undefined, 2))
  else around.print([table(['PROXY', proxy.id], facts(proxy)), '', table(poolHeader, proxy.pools.map(row))].join('\n'))
  return 0
})

function facts(proxy: ProxyDetail): (string | null)[][] {
  const { offered, applied, stats, window, process: usage } = proxy
  const position = (at: typeof applied): string | null =>
    at === null ? null : `v${at.version}${at.epoch === 1 ? '' : ` of epoch ${at.epoch}`}`
  const counts = (all: Readonly<Record<string, number>>): string =>
    Object.entries(all)
      .map(([code, count]) => `${code} ${count}`)
      .join(', ') || '0'
  return [
    ['state', proxy.state],
    ['reason', notesOf(proxy)],
    ['offered', position(offered)],
    ['runs', position(applied)],
    ['version', proxy.agent_version],
    ['boot', proxy.boot],
    ['listens', proxy.listen],
    ['region', proxy.region],
    ['last seen', shortTime(proxy.last_seen_at)],
    ['reported', shortTime(proxy.reported_at)],
    ...(stats === null ? [] : [['clients', `${stats.clients}, ${stats.waiting} waiting; ${stats.servers} servers`]]),
    ...(window === null
      ? []
      : [
          [`last ${window.seconds} s`, `${window.transactions} transactions, ${window.clients_hurt} clients hurt`],
          ['  errors', counts(window.errors)],
          ['  refused', counts(window.refused)],
        ]),
    ...(usage === null
      ? []
      : [['process', `${Math.round(usage.memory_bytes / 2 ** 20)} MiB, loop delay ${usage.loop_delay_ms} ms`]]),
    ...proxy.engine_restarts.map(({ at, reason }) => ['engine restarted', `${shortTime(at)}: ${reason}`]),
  ]
}

const poolHeader = ['DATABASE', 'USER', 'STATE', 'SERVES', 'OPERATED', 'SET', 'DRAINING', 'RUNS', 'REASON']
const hashLength = 12

function row(pool: ProxyDetail['pools'][number]): (string | number | null)[] {
  const { serving, operated = [], overridden = [], hash, message } = pool
  const since = (serving?.since ?? null) === null ? '' : ` since ${shortTime(serving?.since ?? null)}`
  return [
    pool.pool,
    pool.user,
    pool.state,
    serving === undefined ? null : `${serving.state}${since}`,
    operated.join(', ') || null,
    overridden.join(', ') || null,
    pool.draining_servers,
    hash?.slice(0, hashLength) ?? null,
    message ?? serving?.cause ?? null,
  ]
}
