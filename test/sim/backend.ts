/**
 * A PostgreSQL session without time or bytes: requests in, replies out. The model server runs one for each connection.
 * Each model client runs one of its own, as if it had a server to itself, and so knows the correct answer to every
 * request, whatever the engine does in between.
 *
 * Its SQL is a small language: statements of the form `word arguments @owner`, separated by ";". The owner names the
 * client and request a statement came from, so that the server notices at once when clients are mixed up.
 */

export type Request =
  | { readonly kind: 'query'; readonly text: string }
  | { readonly kind: 'parse'; readonly name: string; readonly text: string }
  | { readonly kind: 'bind'; readonly portal: string; readonly name: string; readonly values: readonly string[] }
  | { readonly kind: 'describe'; readonly what: 'S' | 'P'; readonly name: string }
  | { readonly kind: 'execute'; readonly portal: string; readonly rowsMax: number }
  | { readonly kind: 'close'; readonly what: 'S' | 'P'; readonly name: string }
  | { readonly kind: 'sync' }
  | { readonly kind: 'flush' }
  | { readonly kind: 'call'; readonly argument: string }
  | { readonly kind: 'copyData'; readonly bytes: string }
  | { readonly kind: 'copyDone' }
  | { readonly kind: 'copyFail' }
  | { readonly kind: 'terminate' }

/** A part of a request that succeeds or fails as a whole: one statement of a query, or one message. */
export type Atom =
  | { readonly kind: 'statement'; readonly text: string }
  | { readonly kind: 'endOfQuery' }
  | Exclude<Request, { kind: 'query' }>

export function atomsOf(request: Request): Atom[] {
  if (request.kind !== 'query') return [request]
  const statements: Atom[] = statementsOf(request.text).map((text) => ({ kind: 'statement', text }))
  // An empty query is answered too.
  if (statements.length === 0) statements.push({ kind: 'statement', text: '' })
  return [...statements, { kind: 'endOfQuery' }]
}

export type Reply =
  | { readonly tag: '1' | '2' | '3' | 'n' | 's' | 'I' | 'G' | 'H' | 'c' | 't' | 'T' }
  | { readonly tag: 'D'; readonly text: string; readonly columns?: readonly string[] | undefined }
  | { readonly tag: 'd' | 'C' | 'V' | 'N'; readonly text: string }
  | { readonly tag: 'E'; readonly code: string; readonly text: string }
  | { readonly tag: 'Z'; readonly status: Status }

export type Status = 'I' | 'T' | 'E'

/** A reply in one line, which clients compare. Of an error only the SQLSTATE counts. */
export function signature(reply: Reply): string {
  switch (reply.tag) {
    case 'D':
    case 'd':
    case 'C':
    case 'V':
    case 'N':
      return `${reply.tag}:${reply.text}`
    case 'E':
      return `E:${reply.code}`
    case 'Z':
      return `Z:${reply.status}`
    default:
      return reply.tag
  }
}

/** Initial values of a session; changes of those in `reportedSettings` are reported to the client (GUC_REPORT). */
const defaultSettings: ReadonlyMap<string, string> = new Map([
  ['application_name', ''],
  ['client_encoding', 'UTF8'],
  ['TimeZone', 'Etc/UTC'],
  ['search_path', 'public'],
  ['work_mem', '4MB'],
  ['role', 'none'],
  ['session_authorization', ''],
  // Not a parameter, but rolled back and discarded like one; only RESET ALL leaves it.
  ['listening', 'no'],
  // Set by triggers.
  ['hidden', 'none'],
  ['server_version', '18.0'],
])

export const reportedSettings: ReadonlySet<string> = new Set([
  'application_name',
  'client_encoding',
  'TimeZone',
  'search_path',
  'server_version',
])

export function settingName(name: string): string | undefined {
  for (const known of defaultSettings.keys()) if (known.toLowerCase() === name.toLowerCase()) return known
  return undefined
}

/** Stands for NULL among the values of a Bind; no text contains a NUL. */
export const nullValue = '\0'

/** An error in a statement, answered with an ErrorResponse. */
export class Failure extends Error {
  readonly code: string
  constructor(code: string, text: string) {
    super(text)
    this.code = code
  }
}

interface Portal {
  readonly text: string
  readonly values: readonly string[]
  rows: string[] | null
  columns?: readonly string[] | undefined
}

interface Outcome {
  readonly complete: string
  readonly rows?: readonly string[]
  /** Columns of the only row. */
  readonly columns?: readonly string[]
  readonly notice?: string
  /** broken: fails after CopyInResponse and before it reads any data, as a trigger can make it. */
  readonly copy?: 'in' | 'out' | 'broken'
}

export class Backend {
  status: Status = 'I'
  settings = new Map(defaultSettings)
  /** What a rollback restores; null outside explicit and implicit transactions. */
  #before: Map<string, string> | null = null
  /** Settings of SET LOCAL: name → value to restore at the end of the transaction. */
  #local = new Map<string, string>()
  readonly #initial: ReadonlyMap<string, string>
  /** What triggers set ends with its transaction. */
  readonly #strict: boolean
  #statements = new Map<string, string>()
  #portals = new Map<string, Portal>()
  #skipping = false
  #failedQuery = false
  #copying: { bytes: number } | null = null

  constructor(startup: ReadonlyMap<string, string>, strict = false) {
    this.#strict = strict
    for (const [name, value] of startup) {
      const known = settingName(name)
      if (known !== undefined) this.settings.set(known, value)
    }
    this.settings.set('session_authorization', startup.get('user') ?? '')
    this.#initial = new Map(this.settings)
  }

  clone(): Backend {
    const copy = new Backend(this.#initial, this.#strict)
    copy.status = this.status
    copy.settings = new Map(this.settings)
    copy.#before = this.#before === null ? null : new Map(this.#before)
    copy.#local = new Map(this.#local)
    copy.#statements = new Map(this.#statements)
    copy.#portals = new Map([...this.#portals].map(([name, portal]) => [name, { ...portal }]))
    copy.#skipping = this.#skipping
    copy.#failedQuery = this.#failedQuery
    copy.#inQuery = this.#inQuery
    copy.#copying = this.#copying === null ? null : { ...this.#copying }
    return copy
  }

  /** Text of the unnamed statement, null when there is none. */
  get unnamed(): string | null {
    return this.#statements.get('') ?? null
  }

  /** Names of prepared statements, without the unnamed one. */
  get statementNames(): string[] {
    return [...this.#statements.keys()].filter((name) => name !== '')
  }

  get copying(): boolean {
    return this.#copying !== null
  }

  /** Between transactions, with no pipeline or copy unfinished. */
  get quiet(): boolean {
    return this.status === 'I' && this.#before === null && !this.#skipping && this.#copying === null
  }

  /** True when the atom does nothing, because of an earlier error or because it has no meaning now. */
  ignores(atom: Atom): boolean {
    if (atom.kind === 'terminate') return false
    if (this.#skipping) return atom.kind !== 'sync'
    if (atom.kind === 'statement') return this.#failedQuery
    if (atom.kind === 'endOfQuery') return false
    if (this.#copying !== null) return atom.kind === 'sync' || atom.kind === 'flush'
    return atom.kind === 'copyData' || atom.kind === 'copyDone' || atom.kind === 'copyFail'
  }

  /** The text an atom executes, or null when it executes nothing. */
  textOf(atom: Atom): string | null {
    switch (atom.kind) {
      case 'statement':
        return atom.text
      case 'parse':
        return atom.text
      case 'bind':
        return this.#statements.get(atom.name) ?? null
      case 'execute':
        return this.#portals.get(atom.portal)?.text ?? null
      case 'call':
        return atom.argument
      case 'copyData':
        return atom.bytes
      default:
        return null
    }
  }

  valuesOf(atom: Atom): readonly string[] {
    if (atom.kind === 'bind') return atom.values
    return atom.kind === 'execute' ? (this.#portals.get(atom.portal)?.values ?? []) : []
  }

  /** The answer to the atom when nothing interrupts it. */
  run(atom: Atom): Reply[] {
    if (this.ignores(atom)) return []
    try {
      return this.#run(atom)
    } catch (error) {
      if (error instanceof Failure) return this.fail(atom, error)
      throw error
    }
  }

  /** The answer to the atom when a cancel request or an error of its own interrupts it. */
  fail(atom: Atom, failure: Failure): Reply[] {
    this.#copying = null
    if (atom.kind === 'statement') this.#statements.delete('')
    if (this.status === 'I') this.#rollback()
    else {
      this.#restore()
      this.status = 'E'
    }
    const replies: Reply[] = [{ tag: 'E', code: failure.code, text: failure.message }]
    if (atom.kind === 'statement' || this.#inQuery) this.#failedQuery = true
    else if (atom.kind === 'call') replies.push(this.#ready())
    else this.#skipping = true
    return replies
  }

  /** True from the first statement of a simple query to its ReadyForQuery. */
  #inQuery = false

  #run(atom: Atom): Reply[] {
    switch (atom.kind) {
      case 'statement':
        this.#inQuery = true
        this.#statements.delete('')
        this.#portals.delete('')
        if (atom.text === '') return [{ tag: 'I' }]
        return this.#statement(atom)
      case 'endOfQuery':
        // A copy is still open, and its end ends the query too.
        if (this.#copying !== null) return []
        return [this.#ready()]
      case 'parse':
        // Dropped first, also by a Parse that fails.
        if (atom.name === '') this.#statements.delete('')
        this.#begun(atom.text)
        if (atom.name !== '' && this.#statements.has(atom.name)) throw new Failure('42P05', `"${atom.name}" exists`)
        this.#statements.set(atom.name, atom.text)
        return [{ tag: '1' }]
      case 'bind': {
        const text = this.#statements.get(atom.name)
        if (text === undefined) throw new Failure('26000', `no statement "${atom.name}"`)
        this.#begun(text)
        this.#portals.set(atom.portal, { text, values: atom.values, rows: null })
        return [{ tag: '2' }]
      }
      case 'describe': {
        const text = atom.what === 'S' ? this.#statements.get(atom.name) : this.#portals.get(atom.name)?.text
        if (text === undefined) throw new Failure(atom.what === 'S' ? '26000' : '34000', `nothing named "${atom.name}"`)
        this.#begun(text)
        const result: Reply = { tag: returnsRows(text) ? 'T' : 'n' }
        return atom.what === 'S' ? [{ tag: 't' }, result] : [result]
      }
      case 'execute':
        return this.#execute(atom)
      case 'close':
        if (atom.what === 'S') this.#statements.delete(atom.name)
        else this.#portals.delete(atom.name)
        return [{ tag: '3' }]
      case 'sync':
        this.#skipping = false
        return [this.#ready()]
      case 'call':
        if (this.status === 'E') throw aborted
        return [{ tag: 'V', text: atom.argument }, this.#ready()]
      case 'copyData':
        if (this.#copying !== null) this.#copying.bytes += atom.bytes.length
        return []
      case 'copyDone': {
        const bytes = this.#copying?.bytes ?? 0
        this.#copying = null
        const done: Reply = { tag: 'C', text: `COPY ${bytes}` }
        return this.#inQuery ? [done, this.#ready()] : [done]
      }
      case 'copyFail': {
        const replies = this.fail(atom, new Failure('57014', 'COPY from stdin failed'))
        return this.#inQuery ? [...replies, this.#ready()] : replies
      }
      case 'flush':
      case 'terminate':
        return []
      default:
        return atom satisfies never
    }
  }

  /** After an error in the copy of a simple query, ReadyForQuery follows at once. */
  endFailedCopy(): Reply[] {
    return this.#inQuery && this.#failedQuery ? [this.#ready()] : []
  }

  #statement(atom: Extract<Atom, { kind: 'statement' }>): Reply[] {
    const { text } = atom
    this.#begun(text)
    const outcome = this.#perform(text, [])
    const replies: Reply[] = []
    if (outcome.notice !== undefined) replies.push({ tag: 'N', text: outcome.notice })
    if (outcome.copy === 'in') {
      this.#copying = { bytes: 0 }
      return [...replies, { tag: 'G' }]
    }
    if (outcome.copy === 'out') return [...replies, ...copyOut(outcome)]
    if (outcome.copy === 'broken') return [...replies, { tag: 'G' }, ...this.fail(atom, broken)]
    if (outcome.rows !== undefined) {
      const { columns } = outcome
      replies.push({ tag: 'T' }, ...outcome.rows.map((row): Reply => ({ tag: 'D', text: row, columns })))
    }
    return [...replies, { tag: 'C', text: outcome.complete }]
  }

  #execute(atom: Extract<Atom, { kind: 'execute' }>): Reply[] {
    const { portal: name, rowsMax } = atom
    const portal = this.#portals.get(name)
    if (portal === undefined) throw new Failure('34000', `no portal "${name}"`)
    this.#begun(portal.text)
    const replies: Reply[] = []
    if (portal.rows === null) {
      const outcome = this.#perform(portal.text, portal.values)
      if (outcome.notice !== undefined) replies.push({ tag: 'N', text: outcome.notice })
      if (outcome.copy === 'in') {
        this.#copying = { bytes: 0 }
        return [...replies, { tag: 'G' }]
      }
      if (outcome.copy === 'out') return [...replies, ...copyOut(outcome)]
      if (outcome.copy === 'broken') return [...replies, { tag: 'G' }, ...this.fail(atom, broken)]
      if (outcome.rows === undefined) return [...replies, { tag: 'C', text: outcome.complete }]
      portal.rows = [...outcome.rows]
      portal.columns = outcome.columns
    }
    const now = portal.rows.splice(0, rowsMax === 0 ? portal.rows.length : rowsMax)
    const { columns } = portal
    replies.push(
      ...now.map((row): Reply => (columns === undefined ? { tag: 'D', text: row } : { tag: 'D', text: row, columns })),
    )
    replies.push(portal.rows.length > 0 ? { tag: 's' } : { tag: 'C', text: `SELECT ${now.length}` })
    return replies
  }

  /** A failed transaction refuses everything but its end; outside a transaction, an implicit one begins. */
  #begun(text: string): void {
    if (this.status === 'E' && !/^(commit|rollback)\b/i.test(text)) throw aborted
    this.#before ??= new Map(this.settings)
  }

  #perform(text: string, values: readonly string[]): Outcome {
    const own = ownStatement(text)
    if (own !== null) return this.#performOwn(own, text, values)
    const [word = '', ...rest] = text.replace(/ @\S+$/, '').split(' ')
    const owner = ownerOf(text) ?? ''
    switch (word.toLowerCase()) {
      case 'begin':
        this.status = 'T'
        return { complete: 'BEGIN' }
      case 'commit':
        return { complete: this.#end(this.status !== 'E') }
      case 'rollback':
        return { complete: this.#end(false) }
      case 'shared':
        return { complete: 'SELECT 1', rows: [`${values[0] ?? ''}|${rest.join(' ')}`] }
      case 'deallocate':
        return { complete: this.#deallocate(rest[0] ?? '') }
      case 'select':
      case 'sleep':
        return { complete: 'SELECT 1', rows: [`${owner}|${rest.join(' ')}`] }
      case 'rows': {
        const count = Number(rest[0])
        const filler = `${owner}|`.repeat(Math.ceil(Number(rest[1]) / (owner.length + 1)))
        return { complete: `SELECT ${count}`, rows: Array.from({ length: count }, (_, row) => `${row}|${filler}`) }
      }
      case 'set': {
        const [name = '', , value = ''] = rest[0] === 'local' ? rest.slice(1) : rest
        const given = value === 'default' ? (this.#initial.get(name) ?? '') : value
        if (rest[0] !== 'local') this.#set(name, given)
        else if (this.status === 'T') {
          if (!this.#local.has(name)) this.#local.set(name, this.settings.get(name) ?? '')
          this.settings.set(name, given)
        }
        return { complete: 'SET' }
      }
      case 'reset':
        this.#reset(rest[0] ?? '')
        return { complete: 'RESET' }
      case 'discard':
        return this.#discard()
      case 'fire':
        this.settings.set('hidden', owner)
        return { complete: 'SELECT 1', rows: [owner] }
      case 'listen':
      case 'unlisten':
        this.settings.set('listening', word === 'listen' ? 'yes' : 'no')
        return { complete: word.toUpperCase() }
      case 'show':
        return { complete: 'SHOW', rows: [`${rest[0]}=${this.settings.get(rest[0] ?? '')}`] }
      case 'error':
        throw new Failure('22012', `requested by ${owner}`)
      case 'notice':
        return { complete: 'CALL', notice: owner }
      case 'alter':
        return { complete: 'ALTER TABLE' }
      case 'copyin':
        return { complete: '', copy: 'in' }
      case 'copybroken':
        return { complete: '', copy: 'broken' }
      case 'copyout':
        return { complete: `COPY ${rest[0]}`, copy: 'out', rows: Array.from({ length: Number(rest[0]) }, () => owner) }
      default:
        throw new Error(`the model does not know the statement "${text}"`)
    }
  }

  #deallocate(name: string): string {
    if (name === 'all') {
      const unnamed = this.#statements.get('')
      this.#statements.clear()
      if (unnamed !== undefined) this.#statements.set('', unnamed)
      return 'DEALLOCATE ALL'
    }
    if (!this.#statements.delete(name)) throw new Failure('26000', `no statement "${name}"`)
    return 'DEALLOCATE'
  }

  #set(name: string, value: string): void {
    this.#local.delete(name)
    this.settings.set(name, value)
  }

  /** RESET ALL leaves the role, and what is no parameter. */
  #reset(name: string): void {
    const names = name === 'all' ? [...this.settings.keys()].filter((each) => !/^(listening|role)$/.test(each)) : [name]
    for (const each of names) this.#set(each, this.#initial.get(each) ?? '')
  }

  #discard(): Outcome {
    if (this.status !== 'I') throw new Failure('25001', 'DISCARD ALL in a transaction')
    this.settings = new Map(this.#initial)
    this.#before = new Map(this.settings)
    this.#statements.clear()
    this.#portals.clear()
    return { complete: 'DISCARD ALL' }
  }

  /** Statements of the engine itself. */
  #performOwn(own: OwnStatement, text: string, values: readonly string[]): Outcome {
    switch (own.kind) {
      case 'discard':
        return this.#discard()
      case 'reset':
        this.#reset('all')
        return { complete: 'RESET' }
      case 'unlisten':
        this.settings.set('listening', 'no')
        return { complete: 'UNLISTEN' }
      case 'nothing':
        // What this model does not have.
        return { complete: text.toUpperCase() }
      case 'probe': {
        // Of all session state that the engine asks for, this model has only LISTEN.
        const listening = this.settings.get('listening') === 'yes' && text.includes('pg_listening_channels')
        const others = text.split(', ').length - (text.includes('pg_listening_channels') ? 1 : 0)
        const first = text.includes('pg_listening_channels') ? [listening ? 't' : 'f'] : []
        return { complete: 'SELECT 1', rows: [''], columns: [...first, ...Array.from({ length: others }, () => 'f')] }
      }
      case 'identity':
        this.settings.set('role', this.#initial.get('role') ?? '')
        return { complete: /^set/i.test(text) ? 'SET' : 'RESET' }
      case 'rollback':
        return { complete: this.#end(false) }
      case 'begin':
        this.status = 'T'
        return { complete: 'BEGIN' }
      case 'commit':
        return { complete: this.#end(this.status !== 'E') }
      case 'disarm':
        return { complete: 'SET' }
      case 'show':
        return { complete: 'SHOW', rows: ['0'] }
      case 'currentSettings': {
        const columns = values.map((name) => this.settings.get(settingName(name) ?? '') ?? '')
        if (text.includes('pg_settings')) columns.push(values.filter((name) => this.#isSet(name)).join(','))
        return { complete: 'SELECT 1', rows: [''], columns }
      }
      case 'remake':
        return { complete: 'SELECT 1', rows: [''] }
      case 'setConfig': {
        for (let at = 0; at < values.length; at += 2) {
          const name = settingName(values[at] ?? '')
          if (name === undefined) throw new Failure('42704', `unrecognized parameter "${values[at]}"`)
          const value = values[at + 1] ?? ''
          this.settings.set(name, value === nullValue ? (this.#initial.get(name) ?? '') : value)
        }
        return { complete: 'SELECT 1', rows: [values.join(',')] }
      }
      default:
        return own.kind satisfies never
    }
  }

  #isSet(name: string): boolean {
    const known = settingName(name) ?? ''
    return this.settings.get(known) !== this.#initial.get(known)
  }

  #end(commit: boolean): string {
    if (commit) {
      for (const [name, value] of this.#local) this.settings.set(name, value)
    } else {
      this.#restore()
    }
    this.#local.clear()
    this.status = 'I'
    this.#portals.clear()
    // The rest of the same message begins a new transaction.
    this.#before = new Map(this.settings)
    return commit ? 'COMMIT' : 'ROLLBACK'
  }

  #restore(): void {
    if (this.#before !== null) this.settings = new Map(this.#before)
    this.#local.clear()
  }

  #rollback(): void {
    this.#restore()
    this.#before = null
    this.#portals.clear()
  }

  #ready(): Reply {
    this.#inQuery = false
    this.#failedQuery = false
    if (this.status === 'I') {
      if (this.#strict) this.settings.set('hidden', this.#initial.get('hidden') ?? '')
      this.#before = null
      this.#portals.clear()
    }
    return { tag: 'Z', status: this.status }
  }
}

function copyOut(outcome: Outcome): Reply[] {
  const rows = (outcome.rows ?? []).map((row): Reply => ({ tag: 'd', text: row }))
  return [{ tag: 'H' }, ...rows, { tag: 'c' }, { tag: 'C', text: outcome.complete }]
}

function statementsOf(text: string): string[] {
  return text
    .split(';')
    .map((statement) => statement.trim())
    .filter((statement) => statement !== '')
}

function returnsRows(text: string): boolean {
  return /^(select|shared|sleep|rows|show|fire)\b/i.test(text)
}

interface OwnStatement {
  readonly kind:
    | 'discard'
    | 'reset'
    | 'unlisten'
    | 'nothing'
    | 'identity'
    | 'rollback'
    | 'setConfig'
    | 'probe'
    | 'begin'
    | 'commit'
    | 'disarm'
    | 'show'
    | 'currentSettings'
    | 'remake'
}

/** The few statements that the engine sends by itself. */
export function ownStatement(text: string): OwnStatement | null {
  if (/^discard all$/i.test(text)) return { kind: 'discard' }
  if (/^reset all$/i.test(text)) return { kind: 'reset' }
  if (/^(set session authorization default|reset role)$/i.test(text)) return { kind: 'identity' }
  if (/^unlisten \*$/i.test(text)) return { kind: 'unlisten' }
  if (/^(close all|discard sequences|discard temp)$/i.test(text)) return { kind: 'nothing' }
  if (/^select pg_catalog\.pg_advisory_unlock_all/i.test(text)) return { kind: 'remake' }
  if (/^rollback$/i.test(text)) return { kind: 'rollback' }
  if (/^begin isolation level read committed$/i.test(text)) return { kind: 'begin' }
  if (/^commit$/i.test(text)) return { kind: 'commit' }
  if (/^show (statement_timeout|jit)$/i.test(text)) return { kind: 'show' }
  if (/^set local (statement_timeout = 0|jit = off|role none)$/i.test(text)) return { kind: 'disarm' }
  if (/^select pg_catalog\.convert_to\(pg_catalog\.current_setting\(\$1/i.test(text)) return { kind: 'currentSettings' }
  if (/^select pg_catalog\.set_config\(\$1, pg_catalog\.current_setting/i.test(text)) return { kind: 'remake' }
  if (/^select (exists|false|true|pg_catalog\.pg_my_temp_schema)/i.test(text)) return { kind: 'probe' }
  if (/^select (pg_catalog\.)?set_config\(\$1/i.test(text)) return { kind: 'setConfig' }
  return null
}

/** "select x @c3.17" → "c3.17" */
export function ownerOf(text: string): string | null {
  return / ?@(\S+)$/.exec(text)?.[1] ?? null
}

/** A text that several clients prepare, whose first value names the owner, or one without an owner. */
export function isShared(text: string): boolean {
  return /^(shared|deallocate)\b/i.test(text)
}

/** "c3.17" → "c3" */
export function clientOf(owner: string): string {
  return owner.slice(0, owner.indexOf('.'))
}

const broken = new Failure('P0001', 'raised by trigger')
const aborted = new Failure('25P02', 'current transaction is aborted')
