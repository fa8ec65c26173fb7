import { fleetSchema, versionDocumentSchema } from '../../shared/api.ts'
import type { Written } from '../../shared/api.ts'
import { problemType } from '../../shared/problem.ts'
import { Api, apiOptions, Refusal } from '../api.ts'
import { allowedOffline, awaitProxies, waitOptions } from '../await-proxies.ts'
import { command } from '../command.ts'
import type { Surroundings } from '../command.ts'
import { noteOrigin, readDocument, treeOf } from '../document.ts'
import type { WrittenDocument } from '../document.ts'
import { Failure, WrongUsage } from '../failure.ts'
import { changeLines, rebased } from '../rebase.ts'
import {
  checkedIfMatch,
  effectLines,
  fileOption,
  forceOption,
  ifMatchOption,
  neededFile,
  planLines,
  warningLines,
  writeConfig,
} from '../write-config.ts'

const options = {
  ...fileOption,
  ...ifMatchOption,
  rebase: {
    type: 'boolean',
    help: 'if another version was created since FILE was shown, apply the changes of FILE to it',
  },
  ...forceOption,
  message: { type: 'string', short: 'm', help: 'comment for the list of versions' },
  ...waitOptions,
  ...apiOptions,
} as const

/**
 * A file that `flotilla show` wrote replaces the version that it came from, and no other: what another operator has
 * applied meanwhile is not lost. Other files replace the current version.
 */
export const apply = command({ operands: [], options }, async ({ options }, around) => {
  const file = neededFile(options.file)
  const given = checkedIfMatch(options['if-match'])
  allowedOffline(options)
  if (options.rebase && given !== undefined) throw new WrongUsage('--rebase and --if-match exclude each other')
  const api = new Api(options, around)
  const document = await readDocument(file, around)
  // A copy for another fleet replaces nothing there.
  const base = document.origin?.fleet === api.fleet ? document.origin.version : null
  if (options.rebase && base === null) {
    throw new WrongUsage(`--rebase needs the line that \`flotilla show\` begins a file with, for fleet ${api.fleet}`)
  }
  const { message, force } = options
  const ifMatch = given ?? (base === null ? undefined : `v${base}`)
  let isRebased = false
  let written: Written
  try {
    written = await writeConfig(api, document, { ifMatch, message, force, dryRun: false })
  } catch (error) {
    if (given !== undefined || base === null || !isStale(error)) throw error
    if (!options.rebase) throw await overtaken(api, document, base, file)
    written = await writeRebased(api, document, base, { message, force })
    isRebased = true
  }
  if (options.json) around.print(JSON.stringify(written, undefined, 2))
  else if (!written.created) around.print(`v${written.version} is already current: no changes`)
  else
    around.print(
      [`v${written.version} is now current${written.forced ? ', forced' : ''}`, ...planLines(written.plan)].join('\n'),
    )
  if (!options.json) for (const line of [...effectLines(written), ...warningLines(written)]) around.print(line)
  await closeFile(file, document, { fleet: api.fleet, version: written.version, isRebased }, around)
  return options.wait ? awaitProxies(api, written.version, options, around) : 0
})

function isStale(error: unknown): boolean {
  return error instanceof Refusal && error.problem.type === problemType('stale-version')
}

async function closeFile(
  file: string,
  document: WrittenDocument,
  { fleet, version, isRebased }: { fleet: string; version: number; isRebased: boolean },
  { say }: Pick<Surroundings, 'say'>,
): Promise<void> {
  if (isRebased) say(`${file} lacks the changes of others: see \`flotilla show ${version}\``)
  else if (document.origin?.fleet === fleet) await noteOrigin(file, document, { fleet, version })
}

interface Both {
  readonly base: unknown
  readonly current: unknown
  readonly version: number
}

/** The version that a file came from, and the one that is current. */
async function readBoth(api: Api, base: number): Promise<Both> {
  const [before, { version }] = [
    await api.inFleet(versionDocumentSchema, `/versions/${base}`),
    await api.inFleet(fleetSchema, ''),
  ]
  const now = await api.inFleet(versionDocumentSchema, `/versions/${version}`)
  return { base: before.document, current: now.document, version }
}

/** Both changes, for the operator who was overtaken. */
async function overtaken(api: Api, document: WrittenDocument, base: number, file: string): Promise<Failure> {
  const both = await readBoth(api, base)
  return new Failure(
    [
      `v${both.version} is current, and ${file} came from v${base}; nothing was stored`,
      `  changed since v${base}:`,
      ...changeLines(both.base, both.current).map((line) => `    ${line}`),
      `  changed in ${file}:`,
      ...changeLines(both.base, treeOf(document)).map((line) => `    ${line}`),
      `  \`flotilla apply --rebase\` applies the changes of ${file} to v${both.version}`,
    ].join('\n'),
  )
}

async function writeRebased(
  api: Api,
  document: WrittenDocument,
  base: number,
  how: { readonly message: string | undefined; readonly force: boolean },
): Promise<Written> {
  const both = await readBoth(api, base)
  const { tree, conflicts } = rebased(both.base, treeOf(document), both.current)
  if (conflicts.length > 0) {
    throw new Failure(
      [`both v${both.version} and the file have changed, differently:`, ...conflicts.map((path) => `  ${path}`)].join(
        '\n',
      ),
    )
  }
  const merged = { text: JSON.stringify(tree), mediaType: 'application/json', origin: null } as const
  return await writeConfig(api, merged, { ...how, ifMatch: `v${both.version}`, dryRun: false })
}
