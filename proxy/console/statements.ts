import { SqlError } from '../../shared/errors.ts'

/** A token of a statement. A `text` was quoted, so it is data even if it reads like a keyword. */
export interface Token {
  readonly kind: 'word' | 'text' | 'symbol'
  readonly value: string
}

export type Statement = readonly Token[]

/**
 * The statements of a Query message, without empty ones. Supports as much of SQL as a console needs: words, quoted
 * texts, `--` and nested block comments, and `;` between statements. Throws SqlError 42601 for an unterminated quote or
 * comment.
 */
export function parseStatements(source: string): Statement[] {
  const statements: Token[][] = [[]]
  let at = 0
  while (at < source.length) {
    const [next, token] = readAt(source, at)
    at = next
    if (token === null) continue
    if (token.kind === 'symbol' && token.value === ';') statements.push([])
    else statements.at(-1)?.push(token)
  }
  return statements.filter((statement) => statement.length > 0)
}

const space = /(?:\s|--[^\n]*)+/y
const word = /[A-Za-z0-9_.$]+/y
const quoted = { "'": /'((?:[^']|'')*)'/y, '"': /"((?:[^"]|"")*)"/y } as const

/** Reads at `at`: the offset of its end, and a token unless it is space or a comment. */
function readAt(source: string, at: number): [next: number, token: Token | null] {
  const skipped = matchAt(space, source, at)
  if (skipped !== null) return [at + skipped[0].length, null]
  if (source.startsWith('/*', at)) return [endOfComment(source, at), null]
  const found = matchAt(word, source, at)
  if (found !== null) return [at + found[0].length, { kind: 'word', value: found[0] }]
  const first = source[at] as string
  if (first === "'" || first === '"') {
    const text = matchAt(quoted[first], source, at)
    if (text === null) throw new SqlError('syntax_error', 'unterminated quoted string')
    return [at + text[0].length, { kind: 'text', value: (text[1] as string).replaceAll(first + first, first) }]
  }
  return [at + 1, { kind: 'symbol', value: first }]
}

function matchAt(pattern: RegExp, source: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at
  return pattern.exec(source)
}

function endOfComment(source: string, start: number): number {
  let depth = 0
  let at = start
  while (at < source.length) {
    if (source.startsWith('/*', at)) {
      depth++
      at += 2
    } else if (source.startsWith('*/', at)) {
      depth--
      at += 2
      if (depth === 0) return at
    } else {
      at++
    }
  }
  throw new SqlError('syntax_error', 'unterminated comment')
}
