/** User name maps in the syntax of pg_ident.conf (manual, "User Name Maps"): MAPNAME SYSTEM-USERNAME PG-USERNAME. */
import { matches, readLines, readPattern } from './hba-text.ts'
import type { LineFault, NamePattern, TextLine } from './hba-text.ts'

export interface IdentLine {
  readonly map: string
  /** What a certificate says. */
  readonly system: NamePattern
  /** Who that may be. `\1` in a template stands for what the first group of `system` has matched. */
  readonly user: NamePattern | { readonly kind: 'all' } | { readonly kind: 'template'; readonly template: string }
}

export function parseIdent(text: string): {
  readonly lines: readonly IdentLine[]
  readonly faults: readonly LineFault[]
} {
  const { lines, faults } = readLines(text)
  const found = [...faults]
  const read: IdentLine[] = []
  for (const line of lines) {
    const result = readLine(line)
    if (typeof result === 'string') found.push({ line: line.number, message: result })
    else read.push(result)
  }
  return { lines: read, faults: found.sort((a, b) => a.line - b.line) }
}

function readLine({ fields }: TextLine): IdentLine | string {
  const [map, systemName, user] = fields.map((field) => (field.length === 1 ? field[0] : undefined))
  if (fields.length !== 3 || map === undefined || systemName === undefined || user === undefined) {
    return 'must be three words: the map, the name in the certificate, the user'
  }
  if (map.text.startsWith('include') && !map.quoted) return `${map.text} is not supported; write the lines themselves`
  const system = readPattern(systemName)
  if (typeof system === 'string') return system
  if (!user.quoted && user.text === 'all') return { map: map.text, system, user: { kind: 'all' } }
  if (!user.quoted && user.text.startsWith('+')) return 'members of a role (+) are not known here; write the names'
  if (user.text.startsWith('/')) {
    const pattern = readPattern(user)
    return typeof pattern === 'string' ? pattern : { map: map.text, system, user: pattern }
  }
  if (!user.text.includes(firstGroup)) return { map: map.text, system, user: { kind: 'name', name: user.text } }
  if (system.kind !== 'regex') return `${firstGroup} needs a regular expression, which begins with a slash`
  if (groupsIn(system.regex) === 0) return `${firstGroup} needs a group in the regular expression, such as (.*)`
  return { map: map.text, system, user: { kind: 'template', template: user.text } }
}

const firstGroup = '\\1'

function groupsIn({ source, flags }: RegExp): number {
  return (new RegExp(`${source}|`, flags).exec('')?.length ?? 1) - 1
}

/** Whether the holder of a certificate for `systemName` may be `user`. Without a map the two must be the same. */
export function mayBe(lines: readonly IdentLine[], map: string | null, systemName: string, user: string): boolean {
  if (map === null) return systemName === user
  return lines.some((line) => line.map === map && leadsTo(line, systemName, user))
}

function leadsTo({ system, user }: IdentLine, systemName: string, wanted: string): boolean {
  if (!matches(system, systemName)) return false
  switch (user.kind) {
    case 'all':
      return true
    case 'template': {
      const group = system.kind === 'regex' ? system.regex.exec(systemName)?.[1] : undefined
      return group !== undefined && user.template.replace(firstGroup, () => group) === wanted
    }
    case 'name':
    case 'regex':
      return matches(user, wanted)
    default:
      return user satisfies never
  }
}
