/**
 * The grammar of pg_hba.conf and pg_ident.conf (manual, "The pg_hba.conf File"): one record per line, fields separated by
 * blanks, lists by commas; "quoted" keywords are names, # starts a comment, and a backslash at the end continues a line.
 */
export interface Word {
  readonly text: string
  /** A quoted keyword is a name. */
  readonly quoted: boolean
}

export type Field = readonly Word[]

export interface TextLine {
  /** The record's first line, counted from 1. */
  readonly number: number
  readonly fields: readonly Field[]
}

/** An invalid line; the message says what to do. */
export interface LineFault {
  readonly line: number
  readonly message: string
}

/** All records, and the lines that cannot be split into fields. */
export function readLines(text: string): {
  readonly lines: readonly TextLine[]
  readonly faults: readonly LineFault[]
} {
  const lines: TextLine[] = []
  const faults: LineFault[] = []
  const given = text.split(/\r?\n/)
  for (let at = 0; at < given.length; at++) {
    const number = at + 1
    let line = given[at] as string
    while (line.endsWith('\\') && at + 1 < given.length) line = line.slice(0, -1) + given[++at]
    const fields = readFields(line)
    if (fields === undefined) faults.push({ line: number, message: 'unterminated quoted string' })
    else if (fields.length > 0) lines.push({ number, fields })
  }
  return { lines, faults }
}

/** Adjacent quoted and plain pieces form a word; "" inside quotes is a quote. */
const piece = /"((?:[^"]|"")*)"|([^\s,#"]+)/y
const blanksAndCommas = /[\s,]+/y

/** Undefined for an unterminated quote. Words separated by a comma form a list. */
function readFields(line: string): readonly Field[] | undefined {
  const fields: Word[][] = []
  let at = 0
  let listed = false
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at
    const found = pattern.exec(line)
    if (found !== null) at = pattern.lastIndex
    return found
  }
  for (;;) {
    match(blanksAndCommas)
    if (at >= line.length || line[at] === '#') return fields
    let text = ''
    let quoted = false
    for (let found = match(piece); found !== null; found = match(piece)) {
      text += found[2] ?? (found[1] as string).replaceAll('""', '"')
      quoted ||= found[1] !== undefined
    }
    if (line[at] === '"') return undefined
    const last = fields.at(-1)
    if (listed && last !== undefined) last.push({ text, quoted })
    else fields.push([{ text, quoted }])
    listed = line[at] === ','
  }
}

/** A name or regular expression in a record. */
export type NamePattern =
  { readonly kind: 'name'; readonly name: string } | { readonly kind: 'regex'; readonly regex: RegExp }

/** A name, or a regular expression after a slash. Returns a message if it is invalid. */
export function readPattern({ text }: Word): NamePattern | string {
  if (!text.startsWith('/')) return { kind: 'name', name: text }
  try {
    return { kind: 'regex', regex: new RegExp(text.slice(1), 'u') }
  } catch {
    return `"${text}" is not a valid regular expression`
  }
}

export function matches(pattern: NamePattern, name: string): boolean {
  return pattern.kind === 'name' ? pattern.name === name : pattern.regex.test(name)
}
