/**
 * The grammar that pg_hba.conf and pg_ident.conf share (manual, "The pg_hba.conf File"): a record per line, fields
 * separated by blanks, lists by commas, "quotes" that take the meaning from keywords, # for comments, and a backslash
 * at the end of a line that goes on in the next.
 */
export interface Word {
  readonly text: string
  /** A quoted keyword is only a name. */
  readonly quoted: boolean
}

export type Field = readonly Word[]

export interface TextLine {
  /** Counted from 1; of the first when the record goes over several. */
  readonly number: number
  readonly fields: readonly Field[]
}

/** What is wrong with a line: a sentence with the remedy. */
export interface LineFault {
  readonly line: number
  readonly message: string
}

/** Every line that is not empty, and those that are not even fields. */
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
    if (fields === undefined) faults.push({ line: number, message: 'a quote is not closed' })
    else if (fields.length > 0) lines.push({ number, fields })
  }
  return { lines, faults }
}

/** A word is made of quoted and plain pieces that touch; "" within quotes is a quote. */
const piece = /"((?:[^"]|"")*)"|([^\s,#"]+)/y
const blanksAndCommas = /[\s,]+/y

/** Undefined when a quote is not closed. A comma makes a list of the word before it and the one after. */
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

/** What a name in a record stands for. */
export type NamePattern =
  { readonly kind: 'name'; readonly name: string } | { readonly kind: 'regex'; readonly regex: RegExp }

/** A name, or with a slash in front a regular expression. Gives a sentence when it is neither. */
export function readPattern({ text }: Word): NamePattern | string {
  if (!text.startsWith('/')) return { kind: 'name', name: text }
  try {
    return { kind: 'regex', regex: new RegExp(text.slice(1), 'u') }
  } catch {
    return `"${text}" is not a regular expression`
  }
}

export function matches(pattern: NamePattern, name: string): boolean {
  return pattern.kind === 'name' ? pattern.name === name : pattern.regex.test(name)
}
