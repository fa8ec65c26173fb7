import { writtenSchema } from '../../shared/api.ts'
import type { RollbackSecrets, Written } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { allowedOffline, awaitProxies, waitOptions } from '../await-proxies.ts'
import { command } from '../command.ts'
import { WrongUsage } from '../failure.ts'
import {
  checkedIfMatch,
  effectLines,
  forceOption,
  ifMatchOption,
  planLines,
  warningLines,
  writeQuery,
} from '../write-config.ts'

const options = {
  'dry-run': { type: 'boolean', help: 'print the plan; change nothing' },
  secrets: {
    type: 'string',
    value: 'newest|as-of',
    help: 'keep the values of secrets that are in force (newest), or return to those of version N (as-of)',
  },
  ...ifMatchOption,
  ...forceOption,
  message: { type: 'string', short: 'm', help: 'comment for the list of versions' },
  ...waitOptions,
  ...apiOptions,
} as const

export const rollback = command({ operands: ['N'], options }, async ({ operands: [n = ''], options }, around) => {
  const to = wholeNumber('N', n, 1, Number.MAX_SAFE_INTEGER)
  const secrets = checkedSecrets(options.secrets)
  const ifMatch = checkedIfMatch(options['if-match'])
  allowedOffline(options)
  const dryRun = options['dry-run']
  if (dryRun && options.wait) throw new WrongUsage('--wait has no effect with --dry-run')
  const api = new Api(options, around)
  const written = await api.inFleet(writtenSchema, `/rollback${writeQuery({ dryRun, force: options.force })}`, {
    method: 'POST',
    ...(ifMatch === undefined ? {} : { headers: { 'if-match': `"${ifMatch}"` } }),
    body: { to, secrets, ...(options.message === undefined ? {} : { message: options.message }) },
  })
  around.print(options.json ? JSON.stringify(written, undefined, 2) : linesOf(written, to).join('\n'))
  return options.wait ? awaitProxies(api, written.version, options, around) : 0
})

function checkedSecrets(text: string | undefined): RollbackSecrets {
  if (text === undefined || text === 'newest') return 'newest'
  if (text === 'as-of') return 'as_of'
  throw new WrongUsage(`--secrets must be newest or as-of, not "${text}"`)
}

function linesOf(written: Written, to: number): string[] {
  const { version, created, dry_run, plan, kept_secrets } = written
  const kept = kept_secrets.map(
    ({ path, name, version: inForce, as_of }) => `  ${path} keeps ${name} v${inForce}; v${to} had v${as_of}`,
  )
  if (kept.length > 0) kept.push('  --secrets as-of returns to the former values')
  const told = [...kept, ...effectLines(written), ...warningLines(written)]
  const unchanged = `v${version} already has the content of v${to}: no changes`
  if (dry_run) return [`v${version} would have the content of v${to}`, ...planLines(plan), ...told]
  if (!created) return [unchanged, ...told]
  return [`v${version} is now current, with the content of v${to}`, ...planLines(plan), ...told]
}
