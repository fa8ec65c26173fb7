/** User name maps in the syntax of pg_ident.conf (manual, "User Name Maps"): MAPNAME SYSTEM-USERNAME PG-USERNAME. */
import { matches, readLines, readPattern } from './hba-text.ts'
import type { LineFault, NamePattern, TextLine } from './hba-text.ts'

export interface IdentLine {
  readonly map: string
  /** Common name of the certificate. */
  readonly system: NamePattern
  /** Permitted user. In a template, `\1` stands for the match of the first group of `system`. */
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
    return 'must have three fields: map name, certificate common name, user'
  }
  if (map.text.startsWith('include') && !map.quoted) return `${map.text} is not supported; include the lines themselves`
  const system = readPattern(systemName)
  if (typeof system === 'string') return system
  if (!user.quoted && user.text === 'all') return { map: map.text, system, user: { kind: 'all' } }
  if (!user.quoted && user.text.startsWith('+'))
    return 'role membership (+) is not supported, because it is known to the servers only; list the names'
  if (user.text.startsWith('/')) {
    const pattern = readPattern(user)
    return typeof pattern === 'string' ? pattern : { map: map.text, system, user: pattern }
  }
  if (!user.text.includes(firstGroup)) return { map: map.text, system, user: { kind: 'name', name: user.text } }
  if (system.kind !== 'regex') return `${firstGroup} requires a regular expression, which begins with a slash`
  if (groupsIn(system.regex) === 0) return `${firstGroup} requires a group in the regular expression, such as (.*)`
  return { map: map.text, system, user: { kind: 'template', template: user.text } }
}

const firstGroup = '\\1'

function groupsIn({ source, flags }: RegExp): number {
  return (new RegExp(`${source}|`, flags).exec('')?.length ?? 1) - 1
}

/** Whether a certificate with the common name `systemName` may log in as `user`. Without a map the two must be equal. */
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
