/** Sends a configuration to control, to be applied or only planned. */
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
    help: 'the configuration, TOML or JSON; - reads the standard input',
  },
} as const satisfies OptionSpecs

export function neededFile(file: string | undefined): string {
  if (file === undefined) throw new WrongUsage('-f FILE must be given')
  return file
}

/** @throws WrongUsage when it does not look like a version, "v3". */
export function checkedIfMatch(text: string | undefined): string | undefined {
  if (text === undefined || /^v\d+$/.test(text)) return text
  throw new WrongUsage(`--if-match takes a version like v3, not "${text}"`)
}

/** @param ifMatch the version that is replaced, "v3"; without it the one that is current now. */
export async function writeConfig(
  api: Api,
  document: WrittenDocument,
  how: { ifMatch?: string | undefined; message?: string | undefined; dryRun: boolean },
): Promise<Written> {
  const ifMatch = how.ifMatch ?? `v${(await api.inFleet(fleetSchema, '')).version}`
  return api.inFleet(writtenSchema, `/config${how.dryRun ? '?dry_run=true' : ''}`, {
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
  rebuilt: 'new server connections; the old ones finish their transactions',
  retuned: 'new values; keeps its server connections',
  removed: 'its clients are disconnected',
} as const

/** One line for each pool that changes. */
export function planLines(plan: Plan): string[] {
  const lines: string[] = []
  for (const kind of ['added', 'rebuilt', 'retuned', 'removed'] as const) {
    for (const { pool, user } of plan[kind])
      lines.push(`${planSigns[kind]} ${pool}/${user}  ${kind}: ${planHelp[kind]}`)
  }
  for (const key of plan.general) lines.push(`~ ${key}  changed in the proxies themselves`)
  if (plan.kept.length > 0)
    lines.push(
      `  ${plan.kept.length} ${plan.kept.length === 1 ? 'pool stays' : 'pools stay'} as ${plan.kept.length === 1 ? 'it is' : 'they are'}`,
    )
  return lines
}
