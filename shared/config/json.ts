import { ConfigSyntaxError } from './problems.ts'

/** Far deeper than any valid document; deeper input is rejected while parsing. */
const depthMax = 32

const literals: readonly (readonly [string, unknown])[] = [
  ['true', true],
  ['false', false],
  ['null', null],
]
const numberPattern = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const spacePattern = /[ \t\r\n]*/y

/**
 * JSON (RFC 8259) → a tree of plain values. Unlike JSON.parse it rejects duplicate keys, reports line and column, and
 * never quotes the text, which may contain passwords. Throws a ConfigSyntaxError.
 */
export function parseJson(text: string): unknown {
  const reader = new Reader(text)
  const value = reader.value(0)
  reader.end()
  return value
}

class Reader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  value(depth: number): unknown {
    if (depth > depthMax) throw this.#fault('nesting too deep')
    this.#space()
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object(depth)
      case '[':
        return this.#array(depth)
      case '"':
        return this.#string()
      default:
        return this.#scalar()
    }
  }

  end(): void {
    this.#space()
    if (this.#at < this.#text.length) throw this.#fault('unexpected text after the end of the document')
  }

  #object(depth: number): Record<string, unknown> {
    const object: Record<string, unknown> = {}
    this.#at += 1
    if (this.#taken('}')) return object
    do {
      this.#space()
      const keyAt = this.#at
      if (this.#text[keyAt] !== '"') throw this.#fault('expected a key in double quotes')
      const key = this.#string()
      if (Object.hasOwn(object, key)) throw this.#fault('duplicate key', keyAt)
      if (!this.#taken(':')) throw this.#fault('expected ":" after a key')
      const value = this.value(depth + 1)
      // An assignment to "__proto__" would set the prototype.
      Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true })
    } while (this.#taken(','))
    if (!this.#taken('}')) throw this.#fault('expected "," or "}"')
    return object
  }

  #array(depth: number): unknown[] {
    const items: unknown[] = []
    this.#at += 1
    if (this.#taken(']')) return items
    do items.push(this.value(depth + 1))
    while (this.#taken(','))
    if (!this.#taken(']')) throw this.#fault('expected "," or "]"')
    return items
  }

  #string(): string {
    const start = this.#at
    let at = start + 1
    while (at < this.#text.length && this.#text[at] !== '"') at += this.#text[at] === '\\' ? 2 : 1
    try {
      // JSON.parse checks the inside of the string.
      const value = JSON.parse(this.#text.slice(start, at + 1)) as string
      this.#at = at + 1
      return value
    } catch {
      throw this.#fault('invalid or unterminated string')
    }
  }

  #scalar(): unknown {
    for (const [word, value] of literals) {
      if (!this.#text.startsWith(word, this.#at)) continue
      this.#at += word.length
      return value
    }
    const number = this.#match(numberPattern)
    if (number === undefined) throw this.#fault('expected a value')
    return Number(number)
  }

  /** Consumes `character` and the space before it, if it is next. */
  #taken(character: string): boolean {
    this.#space()
    if (this.#text[this.#at] !== character) return false
    this.#at += 1
    return true
  }

  #space(): void {
    this.#match(spacePattern)
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)?.[0]
    if (found !== undefined) this.#at += found.length
    return found
  }

  #fault(reason: string, at = this.#at): ConfigSyntaxError {
    const before = this.#text.slice(0, at).split('\n')
    return new ConfigSyntaxError(reason, before.length, before.at(-1)!.length + 1)
  }
}
