/**
 * Which settings of its session a text may change: read from the words of SET, RESET, DISCARD and set_config. It names
 * too many rather than too few, since the server is queried for the values; what it cannot name is `unknown`.
 */

export interface SettingsChange {
  /** Parameters that may be changed for the session, in lower case. */
  readonly names: ReadonlySet<string>
  /** Those that a RESET or a SET TO DEFAULT brings back to their startup values. */
  readonly resets: ReadonlySet<string>
  readonly resetsAll: boolean
  /** Those that a SET LOCAL … TO DEFAULT brings back to their startup values until the end of the transaction. */
  readonly resetsLocally: ReadonlySet<string>
  /** Those that are set after any RESET of them. */
  readonly setLast: ReadonlySet<string>
  /** Parameters of extensions and applications that are mentioned, also by SET LOCAL: they stay in the server's memory. */
  readonly custom: ReadonlySet<string>
  /** The last literal that a name was set to, because floating-point values are shown with 6 digits only. */
  readonly literals: ReadonlyMap<string, string>
  /** A setting may change that the text does not name. */
  readonly unknown: boolean
  /** The random numbers of the session are made to begin anew. */
  readonly seeds: boolean
  /** The text, if it is nothing but SETs for the session; then `sets` is their number. */
  readonly text: string | null
  readonly sets: number
}

export const noChange: SettingsChange = {
  names: new Set(),
  resets: new Set(),
  resetsAll: false,
  resetsLocally: new Set(),
  setLast: new Set(),
  custom: new Set(),
  literals: new Map(),
  unknown: false,
  seeds: false,
  text: null,
  sets: 0,
}

/** HOT. Whether it may bring a setting back to what a session begins with. */
export function takesBack({ resets, resetsAll, resetsLocally }: SettingsChange): boolean {
  return resetsAll || resets.size > 0 || resetsLocally.size > 0
}

/** Both happened in one transaction, in this order. */
export function bothChanges(one: SettingsChange | null, two: SettingsChange): SettingsChange {
  if (one === null) return two
  return {
    names: new Set([...one.names, ...two.names]),
    resets: new Set([...without(one.resets, two.setLast), ...two.resets]),
    resetsAll: one.resetsAll || two.resetsAll,
    resetsLocally: new Set([...one.resetsLocally, ...two.resetsLocally]),
    setLast: new Set([...(two.resetsAll ? [] : without(one.setLast, two.resets)), ...two.setLast]),
    custom: new Set([...one.custom, ...two.custom]),
    literals: new Map([...one.literals, ...two.literals]),
    unknown: one.unknown || two.unknown,
    seeds: one.seeds || two.seeds,
    text: null,
    sets: one.sets + two.sets,
  }
}

function without(names: ReadonlySet<string>, others: ReadonlySet<string>): string[] {
  return [...names].filter((name) => !others.has(name))
}

/** `sql` is the text in an encoding that contains ASCII. Null if it changes nothing and mentions nothing. */
export function settingsChangedBy(sql: string): SettingsChange | null {
  if (!mayChange.test(sql)) return null
  const found = new Found()
  const tokens = tokensOf(sql)
  if (tokens === null) return { ...noChange, unknown: true }
  const statements = statementsOf(tokens)
  for (const statement of statements) found.statement(statement)
  return found.change(sql, statements.length)
}

const mayChange = /\b(?:re)?set\b|\bdiscard\b|set_config|setseed/i

interface Token {
  /** A word in lower case, a quoted identifier or string without its quotes, or another character. */
  readonly kind: 'word' | 'identifier' | 'string' | 'body' | 'number' | 'sign'
  readonly text: string
  /** The string has escapes: its value is another one. */
  readonly escaped?: true
}

const wordStart = /[a-z_\u0080-\uffff]/i
const word = /[a-z_\u0080-\uffff][\w$\u0080-\uffff]*/iy
const number = /\d[\w.]*|\.\d\w*/y
const dollarQuote = /\$(?:[a-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/iy

/** Null if the text cannot be divided for sure: a backslash in a string, whose meaning depends on a setting. */
function tokensOf(sql: string): Token[] | null {
  const tokens: Token[] = []
  for (let at = 0; at < sql.length;) {
    const char = sql[at] as string
    if (char === '-' && sql[at + 1] === '-') {
      const end = sql.slice(at).search(/[\r\n]/)
      at = end < 0 ? sql.length : at + end
    } else if (char === '/' && sql[at + 1] === '*') {
      at = endOfComment(sql, at)
    } else if (char === "'") {
      const end = endOfString(sql, at, false)
      if (end === null) return null
      const last = tokens.at(-1)
      const text = sql.slice(at + 1, end - 1).replaceAll("''", "'")
      const prefix = last?.kind === 'word' && /^(?:e|b|x|n)$/.test(last.text) && /[a-z]/i.test(sql[at - 1] ?? '')
      if (prefix && last.text === 'e') {
        const escapedEnd = endOfString(sql, at, true) ?? sql.length
        const inner = sql.slice(at + 1, escapedEnd - 1)
        tokens.pop()
        const token = { kind: 'string', text: inner.replaceAll("''", "'") } as const
        tokens.push(inner.includes('\\') ? { ...token, escaped: true } : token)
        at = escapedEnd
        continue
      }
      if (prefix) tokens.pop()
      tokens.push({ kind: 'string', text })
      at = end
    } else if (char === '"') {
      let end = at + 1
      while (end < sql.length && (sql[end] !== '"' || sql[end + 1] === '"')) end += sql[end] === '"' ? 2 : 1
      tokens.push({ kind: 'identifier', text: sql.slice(at + 1, end).replaceAll('""', '"') })
      at = end + 1
    } else if (wordStart.test(char)) {
      word.lastIndex = at
      const text = word.exec(sql)?.[0] ?? char
      tokens.push({ kind: 'word', text: text.toLowerCase() })
      at += text.length
    } else if (char === '$' && match(dollarQuote, sql, at) !== null) {
      const quote = match(dollarQuote, sql, at) as string
      const end = sql.indexOf(quote, at + quote.length)
      tokens.push({ kind: 'body', text: sql.slice(at + quote.length, end < 0 ? sql.length : end) })
      at = end < 0 ? sql.length : end + quote.length
    } else if (match(number, sql, at) !== null) {
      const text = match(number, sql, at) as string
      tokens.push({ kind: 'number', text })
      at += text.length
    } else {
      if (char > ' ') tokens.push({ kind: 'sign', text: char })
      at++
    }
  }
  return tokens
}

function match(pattern: RegExp, sql: string, at: number): string | null {
  pattern.lastIndex = at
  return pattern.exec(sql)?.[0] ?? null
}

function endOfComment(sql: string, start: number): number {
  let depth = 0
  for (let at = start; at < sql.length; at++) {
    if (sql.startsWith('/*', at)) {
      depth++
      at++
    } else if (sql.startsWith('*/', at)) {
      depth--
      at++
      if (depth === 0) return at + 1
    }
  }
  return sql.length
}

/** After the closing quote; null if a backslash before a quote makes it uncertain. */
function endOfString(sql: string, start: number, escapes: boolean): number | null {
  for (let at = start + 1; at < sql.length; at++) {
    if (sql[at] === '\\') {
      if (escapes) at++
      else if (/^\\+'/.test(sql.slice(at, at + 64)) && !/[eE]/.test(sql[start - 1] ?? '')) return null
    } else if (sql[at] === "'") {
      if (sql[at + 1] !== "'") return at + 1
      at++
    }
  }
  return sql.length
}

/** Statements end with a semicolon outside of parentheses and of BEGIN ATOMIC, which has no SET. */
function statementsOf(tokens: readonly Token[]): Token[][] {
  const statements: Token[][] = []
  let statement: Token[] = []
  for (const token of [...tokens, { kind: 'sign', text: ';' } as const]) {
    if (token.kind !== 'sign' || token.text !== ';') statement.push(token)
    else if (statement.length > 0) {
      statements.push(statement)
      statement = []
    }
  }
  return statements
}

const simpleName = /^[a-z_][\w$]*(?:\.[a-z_][\w$]*)*$/

class Found {
  readonly #names = new Set<string>()
  readonly #resets = new Set<string>()
  readonly #setLast = new Set<string>()
  readonly #resetsLocally = new Set<string>()
  readonly #custom = new Set<string>()
  readonly #literals = new Map<string, string>()
  #resetsAll = false
  #unknown = false
  #seeds = false
  /** SETs for the session. */
  #sets = 0
  #mentions = false

  change(sql: string, statements: number): SettingsChange | null {
    if (!this.#mentions) return null
    const plain = this.#sets === statements && !this.#unknown && !this.#seeds
    return {
      names: this.#names,
      resets: this.#resets,
      resetsAll: this.#resetsAll,
      resetsLocally: this.#resetsLocally,
      setLast: this.#setLast,
      custom: this.#custom,
      literals: this.#literals,
      unknown: this.#unknown,
      seeds: this.#seeds,
      text: plain ? sql : null,
      sets: this.#sets,
    }
  }

  statement(tokens: readonly Token[]): void {
    const first = wordAt(tokens, 0)
    if (first === 'set') this.#set(tokens)
    else if (first === 'reset') this.#reset(tokens)
    else if (first === 'discard' && wordAt(tokens, 1) === 'all') this.#discardAll()
    else if (first === 'do') this.#body(tokens)
    this.#calls(tokens)
  }

  #set(tokens: readonly Token[]): void {
    this.#mentions = true
    const second = wordAt(tokens, 1)
    if (second === 'constraints' || (second === 'transaction' && !isAssignment(tokens, 2))) return
    const qualified = (second === 'local' || second === 'session') && !isAssignment(tokens, 2)
    const at = qualified ? 2 : 1
    const named = this.#target(tokens, at, second === 'session')
    if (named === null) {
      this.#unknown = true
      return
    }
    const value = tokens.slice(named.at)
    const isDefault = value.length === 1 && wordAt(value, 0) === 'default'
    if (qualified && second === 'local') {
      for (const name of named.names) {
        if (isDefault) this.#resetsLocally.add(name)
        else this.#resetsLocally.delete(name)
      }
      return
    }
    for (const name of named.names) {
      this.#names.add(name)
      if (name === 'seed') this.#seeds = true
    }
    if (isDefault) {
      for (const name of named.names) this.#resetOne(name)
      return
    }
    this.#sets++
    for (const name of named.names) {
      this.#resets.delete(name)
      this.#setLast.add(name)
    }
    const [name] = named.names
    if (named.names.length === 1 && name !== undefined) this.#keepLiteral(name, value)
  }

  #keepLiteral(name: string, value: readonly Token[]): void {
    const signed = value[0]?.kind === 'sign' && value[0].text === '-' && value[1]?.kind === 'number'
    const literal = signed ? `-${value[1]?.text}` : value[0]?.escaped === true ? undefined : value[0]?.text
    if (literal !== undefined && value.length === (signed ? 2 : 1)) this.#literals.set(name, literal)
    else this.#literals.delete(name)
  }

  /** What is set: its names, and where its value begins. */
  #target(tokens: readonly Token[], at: number, afterSession: boolean): { names: string[]; at: number } | null {
    const first = wordAt(tokens, at)
    const second = wordAt(tokens, at + 1)
    if (!isAssignment(tokens, at + 1)) {
      if (first === 'time' && second === 'zone') return { names: ['timezone'], at: at + 2 }
      if (first === 'names') return { names: ['client_encoding'], at: at + 1 }
      if (first === 'schema') return { names: ['search_path'], at: at + 1 }
      if (first === 'role') return { names: ['role'], at: at + 1 }
      if (first === 'xml' && second === 'option') return { names: ['xmloption'], at: at + 2 }
      if (first === 'session' && second === 'authorization') return { names: identity, at: at + 2 }
      if (afterSession && first === 'authorization') return { names: identity, at: at + 1 }
      if (afterSession && first === 'characteristics') return { names: characteristics, at: tokens.length }
    }
    const name = this.#nameAt(tokens, at)
    if (name === null) return null
    const equals = name.at
    if (!isAssignment(tokens, equals)) return null
    return { names: name.names, at: equals + 1 }
  }

  /** A name as it is written, possibly with dots. */
  #nameAt(tokens: readonly Token[], start: number): { names: string[]; at: number } | null {
    let name = ''
    let at = start
    for (;;) {
      const token = tokens[at]
      if (token?.kind !== 'word' && token?.kind !== 'identifier') return null
      name += token.text
      at++
      const dot = tokens[at]
      if (dot?.kind !== 'sign' || dot.text !== '.') break
      name += '.'
      at++
    }
    const lower = this.#known(name)
    return lower === null ? null : { names: namesOf(lower), at }
  }

  /** The name in lower case, noted if it is a custom one; null if it cannot be queried for. */
  #known(name: string): string | null {
    const lower = name.toLowerCase()
    if (!simpleName.test(lower)) return null
    if (lower.includes('.')) this.#custom.add(lower)
    return lower
  }

  #reset(tokens: readonly Token[]): void {
    this.#mentions = true
    const first = wordAt(tokens, 1)
    const second = wordAt(tokens, 2)
    if (first === 'all' && tokens.length === 2) {
      this.#resetsAll = true
      this.#setLast.clear()
      return
    }
    if (first === 'transaction' && second === 'isolation') return
    let names: readonly string[]
    if (first === 'time' && second === 'zone') names = ['timezone']
    else if (first === 'session' && second === 'authorization') names = identity
    else {
      const named = this.#nameAt(tokens, 1)
      if (named === null) {
        this.#unknown = true
        return
      }
      ;({ names } = named)
    }
    for (const name of names) this.#resetOne(name)
  }

  #resetOne(name: string): void {
    this.#names.add(name)
    this.#resets.add(name)
    this.#setLast.delete(name)
    this.#literals.delete(name)
  }

  #discardAll(): void {
    this.#mentions = true
    this.#resetsAll = true
    this.#setLast.clear()
    for (const name of identity) this.#resetOne(name)
  }

  /** The code of a DO statement: what it sets, wherever. */
  #body(tokens: readonly Token[]): void {
    for (const token of tokens) {
      if (token.kind !== 'body' && token.kind !== 'string') continue
      if (!/\b(?:set|reset|discard|set_config)\b/i.test(token.text)) continue
      this.#mentions = true
      const inner = tokensOf(token.text)
      // An EXECUTE may be given any text.
      if (inner === null || /\bexecute\b/i.test(token.text)) {
        this.#unknown = true
        continue
      }
      for (const [at, { kind, text }] of inner.entries()) {
        if (kind !== 'word' || (text !== 'set' && text !== 'reset')) continue
        const end = inner.findIndex((each, index) => index > at && each.kind === 'sign' && each.text === ';')
        const statement = inner.slice(at, end < 0 ? undefined : end)
        // The SET of an UPDATE names columns: asking for them finds nothing.
        if (text === 'set') this.#set(statement)
        else this.#reset(statement)
      }
      this.#calls(inner)
    }
    // Its value is not that of one literal.
    this.#literals.clear()
    this.#sets = -1
  }

  /** Calls of set_config and setseed, wherever in the statement. */
  #calls(tokens: readonly Token[]): void {
    for (const [at, token] of tokens.entries()) {
      const name = token.kind === 'word' || token.kind === 'identifier' ? token.text : ''
      if (name === 'setseed') {
        this.#mentions = true
        this.#seeds = true
      }
      if (name === 'set_config') this.#call(tokens, at + 1)
      if ((token.kind === 'string' || token.kind === 'body') && /set_config/i.test(token.text)) {
        // A text that a function may execute.
        const inner = tokensOf(token.text)
        if (inner !== null) this.#quoted(inner)
      }
    }
  }

  #quoted(tokens: readonly Token[]): void {
    for (const [at, token] of tokens.entries()) {
      if (token.text !== 'set_config') continue
      const name = tokens[at + 2]
      const known = name?.kind === 'string' ? this.#known(name.text) : null
      if (known === null) continue
      this.#mentions = true
      for (const each of namesOf(known)) this.#names.add(each)
    }
  }

  #call(tokens: readonly Token[], start: number): void {
    if (tokens[start]?.text !== '(') return
    this.#mentions = true
    const values = argumentsOf(tokens, start)
    const [name] = values[0] ?? []
    const local = values[2]
    if (values.length === 3 && local?.length === 1 && isTrue(local[0] as Token)) {
      if (name?.kind === 'string') this.#known(name.text)
      return
    }
    const one = values[0]?.length === 1 && name?.kind === 'string' && name.escaped !== true
    const known = one ? this.#known(name.text) : null
    if (known === null) {
      this.#unknown = true
      return
    }
    if (known === 'seed') this.#seeds = true
    if (values[1]?.length === 1 && wordAt(values[1], 0) === 'null') {
      for (const each of namesOf(known)) this.#resetOne(each)
      return
    }
    for (const each of namesOf(known)) {
      this.#names.add(each)
      this.#resets.delete(each)
      this.#setLast.add(each)
    }
    this.#keepLiteral(known, values[1] ?? [])
  }
}

const identity = ['session_authorization', 'role']
const characteristics = [
  'default_transaction_isolation',
  'default_transaction_read_only',
  'default_transaction_deferrable',
]
/** They end with their transaction, however they are set. */
const ofTransaction: ReadonlySet<string> = new Set([
  'transaction_isolation',
  'transaction_read_only',
  'transaction_deferrable',
])

function namesOf(name: string): string[] {
  if (ofTransaction.has(name)) return []
  return name === 'session_authorization' ? identity : [name]
}

function wordAt(tokens: readonly Token[], at: number): string {
  const token = tokens[at]
  return token?.kind === 'word' ? token.text : ''
}

function isAssignment(tokens: readonly Token[], at: number): boolean {
  const token = tokens[at]
  if (token?.kind === 'sign') return token.text === '=' || (token.text === ':' && tokens[at + 1]?.text === '=')
  return token?.kind === 'word' && token.text === 'to'
}

function isTrue({ kind, text }: Token): boolean {
  if (kind === 'word') return text === 'true'
  return kind === 'string' && /^(?:t|true|on|yes|y|1)$/i.test(text)
}

/** The tokens of each argument in the parentheses that open at `start`. */
function argumentsOf(tokens: readonly Token[], start: number): Token[][] {
  const values: Token[][] = [[]]
  let depth = 0
  for (const token of tokens.slice(start)) {
    const { text } = token
    if (token.kind === 'sign' && (text === '(' || text === '[')) {
      depth++
      if (depth === 1) continue
    } else if (token.kind === 'sign' && (text === ')' || text === ']')) {
      depth--
      if (depth === 0) break
    } else if (token.kind === 'sign' && text === ',' && depth === 1) {
      values.push([])
      continue
    }
    values.at(-1)?.push(token)
  }
  return values
}
