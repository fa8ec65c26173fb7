import { versionsSchema } from '../../shared/api.ts'
import type { Version } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { command } from '../command.ts'
import { shortTime, table } from '../table.ts'

const options = {
  limit: { type: 'string', value: 'N', help: 'maximum number of versions (20)' },
  ...apiOptions,
} as const

export const versions = command({ operands: [], options }, async ({ options }, around) => {
  const limit = wholeNumber('--limit', options.limit ?? '20', 1, 1_000_000)
  const api = new Api(options, around)
  const listed = await list(api, limit)
  if (options.json) around.print(JSON.stringify({ versions: listed }, undefined, 2))
  else around.print(table(['VERSION', 'CREATED', 'POOLS', 'ROLLBACK OF', 'MESSAGE'], listed.map(row)))
  return 0
})

async function list(api: Api, limit: number): Promise<Version[]> {
  const listed: Version[] = []
  let cursor: string | null = ''
  while (cursor !== null && listed.length < limit) {
    const page: { versions: Version[]; next: string | null } = await api.inFleet(
      versionsSchema,
      `/versions${cursor === '' ? '' : `?cursor=${encodeURIComponent(cursor)}`}`,
    )
    listed.push(...page.versions)
    cursor = page.next
  }
  return listed.slice(0, limit)
}

function row({ version, created_at, pools, rollback_of, forced, message }: Version): (string | number | null)[] {
  const former = rollback_of === null ? null : `v${rollback_of}`
  return [`v${version}`, shortTime(created_at), pools, former, forced ? `(forced) ${message ?? ''}`.trimEnd() : message]
}
