/** Sends a configuration to control, to apply or only plan it. */
import { fleetSchema, writtenSchema } from '../shared/api.ts'
import type { Plan, Written } from '../shared/api.ts'
import type { Api } from './api.ts'
import type { OptionSpecs } from './arguments.ts'
import { WrongUsage } from './failure.ts'
import type { WrittenDocument } from './document.ts'

export const fileOption = {
  file: {
    type: 'string',
    short: 'f',
    value: 'FILE',
    help: 'configuration file, TOML or JSON; - reads standard input',
  },
} as const satisfies OptionSpecs

export const ifMatchOption = {
  'if-match': { type: 'string', value: 'vN', help: 'fail unless this version is current' },
} as const satisfies OptionSpecs

export const forceOption = {
  force: { type: 'boolean', help: 'proxies apply the version without trying its servers first' },
} as const satisfies OptionSpecs

/** The query of a write: "?dry_run=true&force=true", or nothing. */
export function writeQuery(how: { readonly dryRun: boolean; readonly force: boolean }): string {
  const keys = [...(how.dryRun ? ['dry_run=true'] : []), ...(how.force ? ['force=true'] : [])]
  return keys.length === 0 ? '' : `?${keys.join('&')}`
}

export function neededFile(file: string | undefined): string {
  if (file === undefined) throw new WrongUsage('-f FILE is required')
  return file
}

/** @throws WrongUsage if it is not a version such as "v3". */
export function checkedIfMatch(text: string | undefined): string | undefined {
  if (text === undefined || /^v\d+$/.test(text)) return text
  throw new WrongUsage(`--if-match must be a version such as v3, not "${text}"`)
}

/** @param ifMatch the version to replace, such as "v3"; the current one by default. */
export async function writeConfig(
  api: Api,
  document: WrittenDocument,
  how: { ifMatch?: string | undefined; message?: string | undefined; dryRun: boolean; force?: boolean },
): Promise<Written> {
  const ifMatch = how.ifMatch ?? `v${(await api.inFleet(fleetSchema, '')).version}`
  return api.inFleet(writtenSchema, `/config${writeQuery({ force: false, ...how })}`, {
    method: 'PUT',
    headers: {
      'content-type': document.mediaType,
      'if-match': `"${ifMatch}"`,
      ...(how.message === undefined ? {} : { 'flotilla-message': encodeURIComponent(how.message) }),
    },
    body: document.text,
  })
}

const planSigns = { added: '+', rebuilt: '!', retuned: '~', removed: '-' } as const

const planHelp = {
  added: 'new pool',
  rebuilt: 'new server connections; the old ones drain',
  retuned: 'new values; server connections are kept',
  removed: 'its clients are disconnected',
} as const

/** Number of proxies that are named. */
const proxiesMax = 20

/** One line per value without effect, and per proxy that is too old for a key. */
export function warningLines({ warnings, unsupported }: Written): string[] {
  const lines = warnings.map(({ path, message }) => `warning: ${path}: ${message}`)
  for (const { proxy, agent_version, keys } of unsupported.slice(0, proxiesMax)) {
    lines.push(`warning: ${proxy} ${agent_version ?? '(unknown release)'} cannot: ${keys.join(', ')}`)
  }
  const more = unsupported.length - proxiesMax
  return more > 0 ? [...lines, `warning: and ${more} more proxies`] : lines
}

/** What the plan does not show: one line each. */
export function effectLines({ effects }: Written): string[] {
  const replicas = effects.unused_replicas.map(
    ({ pool, host, port }) => `  ${pool}: the replica ${host}:${port} is not used, because the pool has a primary`,
  )
  const restarts = effects.needs_restart.map(({ key, proxies }) => {
    const where = proxies.length === 0 ? '' : `: ${proxies.join(', ')}`
    return `  ${key} takes effect when proxies start again${where}`
  })
  const reconnects = effects.reconnects.map(
    ({ pool, server_user, servers_max: servers }) =>
      `  ${pool}: at most ${servers} servers of ${server_user} reconnect`,
  )
  return [...reconnects, ...restarts, ...replicas]
}

/** One line per changed pool. */
export function planLines(plan: Plan): string[] {
  const lines: string[] = []
  for (const kind of ['added', 'rebuilt', 'retuned', 'removed'] as const) {
    for (const { pool, user } of plan[kind])
      lines.push(`${planSigns[kind]} ${pool}/${user}  ${kind}: ${planHelp[kind]}`)
  }
  for (const key of plan.general) lines.push(`~ ${key}  changed (proxy settings)`)
  for (const { path, name, before, after } of plan.secrets)
    lines.push(`~ ${path}  secret ${name}: v${before} -> v${after}`)
  if (plan.kept.length > 0) lines.push(`  ${plan.kept.length} ${plan.kept.length === 1 ? 'pool' : 'pools'} unchanged`)
  return lines
}
