/**
 * Prepared statements in transaction mode. A client's statement has a name of the client's; on a server it has one of
 * ours, shared by all clients that prepared the same text under parameters that give it the same meaning. What a server
 * has is known from its replies: a request that was skipped after an error is undone.
 */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { stringEnd } from '../../protocol/read.ts'
import type { ErrorFields } from '../../protocol/read.ts'
import { FrontendTag } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import { headerBytes } from '../../protocol/framing.ts'
import { descriptionOf } from './description.ts'
import type { Described } from './outstanding.ts'
import type { StatementMemory } from './statement-memory.ts'
import { signsOfText } from './session-state.ts'
import type { Signs } from './session-state.ts'

/** Prefix of our names; a client's own name with this prefix is not taken for ours. */
const serverNamePrefix = 'flotilla_'

/** Longer texts are known by a digest, so that they are kept once. */
const keyBytesMax = 1024

/** Of a statement and of a name, besides their bytes. */
const statementBytes = 600
const nameBytes = 200

/** What the same text may have another meaning under. */
export interface Circumstances {
  /** Of the client's parameters: see Parameters. */
  readonly meaning: string
  /** Version of the schema. */
  readonly schema: number
}

/** A text with its parameter types, prepared by one or more clients. */
export class Statement {
  readonly serverName: Buffer
  #parse: Buffer
  #typesAreFixed = false
  /** Removes it from a server. */
  readonly close: Buffer
  /** Requests its description from a server. */
  readonly describe: Buffer
  readonly key: string
  /** Meaning of the clients' parameters: see Parameters. */
  readonly meaning: string
  /** What executing it may leave in the session. */
  readonly signs: Signs | null
  /** Of the schema, when the first client prepared it. */
  readonly schema: number
  /** Number of clients' names for it. */
  holders = 0
  /** An error has put in doubt that it has the types it would have if it was prepared now. */
  doubtful = false

  constructor(key: string, id: number, textAndTypes: Uint8Array, { meaning, schema }: Circumstances) {
    this.key = key
    this.meaning = meaning
    this.schema = schema
    this.signs = signsOfText(textAndTypes, 0, stringEnd(textAndTypes, 0, textAndTypes.length))
    const name = `${serverNamePrefix}${id}`
    this.serverName = Buffer.from(name)
    this.#parse = write.parseMessage(name, textAndTypes)
    this.bytes = bytesOf(this.#parse.length)
    this.close = write.closeStatement(name)
    this.describe = write.describeStatement(name)
  }

  /** The whole Parse message with the server's name, while a client has a name for it. */
  get parse(): Buffer {
    if (this.holders === 0) assert.fail('a statement that no client holds is prepared on no server')
    return this.#parse
  }

  /** What follows the name in its Parse. */
  get textAndTypes(): Uint8Array {
    return this.#parse.subarray(headerBytes + this.serverName.length + 1)
  }

  /** Of memory. */
  readonly bytes: number

  /**
   * A client was told these types of parameters, and sends values accordingly: a server that prepares the text later,
   * perhaps after a change of the schema, must take them so, as PostgreSQL does when it plans a statement anew.
   */
  fixTypes(types: Uint8Array): void {
    if (this.#typesAreFixed || this.holders === 0) return
    this.#typesAreFixed = true
    const text = this.textAndTypes.subarray(0, this.textAndTypes.indexOf(0) + 1)
    this.#parse = write.parseMessage(this.serverName.toString(), Buffer.concat([text, types]))
  }

  /** HOT. Its Parse says all types already, or there are none. */
  get typesAreFixed(): boolean {
    return this.#typesAreFixed
  }

  /** Servers that still have it need its name alone. */
  dropText(): void {
    this.#parse = nothing
  }
}

/**
 * The statements of a pool by content and circumstances; one without holders is removed. One that was prepared before a
 * change of the schema stays with its clients, as in PostgreSQL, and is given to no other: types of parameters and
 * columns are those of the Parse.
 */
export class Statements {
  readonly memory: StatementMemory
  readonly #byText = new Map<string, Statement>()
  #nextId = 1

  constructor(memory: StatementMemory) {
    this.memory = memory
  }

  get size(): number {
    return this.#byText.size
  }

  find(textAndTypes: Uint8Array, under: Circumstances): Statement | undefined {
    return this.#byText.get(keyOf(textAndTypes, under))
  }

  /** Whether a further name can be kept, with its statement if that is new. */
  hasRoom(textAndTypes: Uint8Array, under: Circumstances, name: Uint8Array): boolean {
    const { length } = textAndTypes
    const textBytes = this.find(textAndTypes, under) === undefined ? bytesOf(length) : 0
    return length <= this.memory.textBytesMax && this.memory.hasRoom(textBytes + name.length + nameBytes)
  }

  /** `textAndTypes` is what follows the name in a Parse message. */
  acquire(textAndTypes: Uint8Array, under: Circumstances): Statement {
    const key = keyOf(textAndTypes, under)
    let statement = this.#byText.get(key)
    if (statement === undefined) {
      statement = new Statement(key, this.#nextId++, textAndTypes, under)
      this.#byText.set(key, statement)
      this.memory.add(statement.bytes)
    }
    statement.holders++
    return statement
  }

  /** Its text is kept, whatever becomes of the names for it, until it is released. */
  hold(statement: Statement): void {
    statement.holders++
  }

  /** A Bind or Describe of it has failed, perhaps by a change that was not seen: it is given to no further client. */
  doubt(statement: Statement): void {
    statement.doubtful = true
    this.#forget(statement)
  }

  #forget(statement: Statement): void {
    if (this.#byText.get(statement.key) === statement) this.#byText.delete(statement.key)
  }

  release(statement: Statement): void {
    statement.holders--
    assert(statement.holders >= 0, 'a statement is released as often as it was acquired')
    if (statement.holders > 0) return
    this.#forget(statement)
    this.memory.release(statement.bytes)
    statement.dropText()
  }
}

/** A meaning contains no NUL. */
function keyOf(textAndTypes: Uint8Array, { meaning, schema }: Circumstances): string {
  if (textAndTypes.length <= keyBytesMax) return `${schema} ${meaning}\0${latin1(textAndTypes)}`
  return `digest ${schema} ${meaning}\0${createHash('sha256').update(textAndTypes).digest('base64')}`
}

/** A client's name for a statement. */
export class Named implements Described {
  readonly name: Uint8Array
  readonly statement: Statement
  #description: string | null
  /** Next name with the same hash. */
  next: Named | null

  constructor(name: Uint8Array, statement: Statement, next: Named | null, description: string | null = null) {
    this.name = name
    this.statement = statement
    this.next = next
    this.#description = description
  }

  get description(): string | null {
    return this.#description
  }

  describe(tag: number, bytes: Uint8Array, start: number, end: number): void {
    this.#description = descriptionOf(tag, bytes, start, end)
  }

  fixTypes(bytes: Uint8Array, start: number, end: number): void {
    if (!this.statement.typesAreFixed) this.statement.fixTypes(Uint8Array.from(bytes.subarray(start, end)))
  }
}

/** A request that creates or drops a name, and the statement it was taken from. */
interface Asked {
  readonly group: number
  readonly from: Statement | null
}

/** A client's names. Looked up by their bytes, so that a Bind decodes and allocates nothing. */
export class ClientStatements {
  readonly #statements: Statements
  readonly #byHash = new Map<number, Named>()
  #size = 0
  /** Names created or dropped by unanswered requests, with the group of each: see `settledBy`. */
  readonly #unsettled = new Map<string, Asked>()
  /** The client's parameters have changed since it prepared a statement. */
  #meaningChanged = false
  /** The statement that was prepared anew for the present Bind. */
  #preparedAnew: Statement | null = null
  /** Statements whose name is being dropped: an error may restore it. */
  readonly #held = new Set<{ readonly statement: Statement }>()
  /** Names in DEALLOCATE texts, in the order in which they will be answered. */
  readonly deallocating: Uint8Array[] = []

  constructor(statements: Statements) {
    this.#statements = statements
  }

  get size(): number {
    return this.#size
  }

  /** HOT. `bytes` from `start` to `end` are the name. */
  get(bytes: Uint8Array, start: number, end: number): Statement | undefined {
    return this.#find(bytes, start, end)?.statement
  }

  #find(bytes: Uint8Array, start: number, end: number): Named | null {
    let named: Named | null = this.#byHash.get(hashOf(bytes, start, end)) ?? null
    while (named !== null && !equals(named.name, bytes, start, end)) named = named.next
    return named
  }

  /** HOT. Like `get`, for use now: a text whose meaning has changed is another statement. */
  use(bytes: Uint8Array, start: number, end: number, meaning: string): Named | undefined {
    const named = this.#find(bytes, start, end)
    if (named === null) return undefined
    // Requests in flight are settled by the statement that was sent.
    if (!this.#meaningChanged || named.statement.meaning === meaning || this.#unsettled.size > 0) return named
    const { name, statement, description } = named
    const held = this.#statements.acquire(statement.textAndTypes, { meaning, schema: statement.schema })
    this.remove(name)
    return this.#put(name, held, description)
  }

  changeMeaning(): void {
    this.#meaningChanged = true
  }

  /** The server prepares it anew for a Bind that waits for its description. */
  prepareAnew(statement: Statement): void {
    this.#preparedAnew = statement
  }

  isPreparedAnew(statement: Statement): boolean {
    return this.#preparedAnew === statement
  }

  /** HOT. A Bind goes on. */
  bound(): void {
    this.#preparedAnew = null
  }

  /** Returns the statement under its new name. */
  add(name: Uint8Array, textAndTypes: Uint8Array, under: Circumstances): Statement {
    const statement = this.#statements.acquire(textAndTypes, under)
    this.#put(name, statement)
    return statement
  }

  /** Keeps a statement while its name is being dropped, until the returned function is called or the client leaves. */
  hold(statement: Statement): () => void {
    const held = { statement }
    this.#held.add(held)
    this.#statements.hold(statement)
    return () => {
      if (this.#held.delete(held)) this.#statements.release(statement)
    }
  }

  /** A name dropped by a request that was not executed; its statement was held meanwhile. */
  restore(name: Uint8Array, statement: Statement): void {
    this.#statements.hold(statement)
    this.#put(name, statement)
  }

  #put(name: Uint8Array, statement: Statement, description: string | null = null): Named {
    const hash = hashOf(name, 0, name.length)
    const named = new Named(name, statement, this.#byHash.get(hash) ?? null, description)
    this.#byHash.set(hash, named)
    this.#size++
    this.#statements.memory.add(name.length + nameBytes)
    return named
  }

  /** Only if the name still stands for `statement`, if given. */
  remove(name: Uint8Array, statement?: Statement): void {
    const hash = hashOf(name, 0, name.length)
    let before: Named | null = null
    let named = this.#byHash.get(hash) ?? null
    while (named !== null && !equals(named.name, name, 0, name.length)) {
      before = named
      named = named.next
    }
    if (named === null || (statement !== undefined && named.statement !== statement)) return
    if (before !== null) before.next = named.next
    else if (named.next !== null) this.#byHash.set(hash, named.next)
    else this.#byHash.delete(hash)
    this.#size--
    this.#release(named)
  }

  /**
   * Whether it is known what the name stands for. Within a group it is: an error skips what follows. After a Sync it is
   * not, until the earlier request was answered.
   */
  isSettled(bytes: Uint8Array, start: number, end: number, group: number): boolean {
    if (this.#unsettled.size === 0) return true
    const asked = this.#unsettled.get(latin1(bytes.subarray(start, end)))
    return asked === undefined || asked.group === group
  }

  /** Until the returned function is called, the name is being created or dropped by a request of this `group`. */
  unsettle(name: Uint8Array, from: Statement | null, group: number): () => void {
    const key = latin1(name)
    const asked = { group, from: from ?? this.#unsettled.get(key)?.from ?? null }
    this.#unsettled.set(key, asked)
    return () => {
      // A later request may have created or dropped it: then that one settles it.
      if (this.#unsettled.get(key) === asked) this.#unsettled.delete(key)
    }
  }

  /** Drops names whose request was answered; those in flight stay. */
  clearSettled(): void {
    for (const name of Array.from(this.#names())) if (!this.#unsettled.has(latin1(name))) this.remove(name)
  }

  *#names(): Generator<Uint8Array> {
    for (const first of this.#byHash.values()) {
      for (let named: Named | null = first; named !== null; named = named.next) yield named.name
    }
  }

  /** The client's name for a statement that the server calls `serverName`. */
  nameOf(serverName: string): Uint8Array | undefined {
    for (const first of this.#byHash.values()) {
      for (let named: Named | null = first; named !== null; named = named.next) {
        if (named.statement.serverName.toString() === serverName) return named.name
      }
    }
    // The answer is to a request before the one that drops the name.
    for (const [name, { from }] of this.#unsettled) {
      if (from?.serverName.toString() === serverName) return Buffer.from(name, 'latin1')
    }
    return undefined
  }

  clear(): void {
    for (const first of this.#byHash.values()) {
      for (let named: Named | null = first; named !== null; named = named.next) {
        this.#release(named)
      }
    }
    this.#byHash.clear()
    this.#size = 0
    for (const { statement } of this.#held) this.#statements.release(statement)
    this.#held.clear()
  }

  #release({ name, statement }: Named): void {
    this.#statements.memory.release(name.length + nameBytes)
    this.#statements.release(statement)
  }
}

/** Of memory, for a text or Parse of this length. */
function bytesOf(length: number): number {
  return length + Math.min(length, keyBytesMax) + statementBytes
}

const nothing = Buffer.alloc(0)

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1')
}

/** FNV-1a, truncated to V8's small integers. */
function hashOf(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] as number), 0x01000193)
  return hash & 0x3fffffff
}

function equals(name: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (name.length !== end - start) return false
  for (let at = 0; at < name.length; at++) if (name[at] !== bytes[start + at]) return false
  return true
}

/** A request that creates or drops a statement on a server: its group, and whether the server has the statement after it. */
interface Change {
  readonly group: number
  there: boolean
  settled: boolean
  /** It was skipped when this earlier request was unanswered: what that one leaves is what this one leaves. */
  skippedAfter: Change | null
}

function thereAfter(change: Change): boolean {
  return change.skippedAfter === null ? change.there : thereAfter(change.skippedAfter)
}

/**
 * What a server will have when it has processed everything sent, least recently used first. `doubtful` after an error
 * that contradicts this: from then on a statement is closed before it is prepared again, which is harmless if it does
 * not exist.
 */
export class ServerStatements {
  /** With the server's description; null if it was not queried. */
  readonly #known = new Map<Statement, string | null>()
  /** The last of `#known`. */
  #latest: Statement | null = null
  /** The last unanswered request about a statement. */
  readonly #awaited = new Map<Statement, Change>()
  #doubtful = false

  get size(): number {
    return this.#known.size
  }

  get doubtful(): boolean {
    return this.#doubtful
  }

  has(statement: Statement): boolean {
    return this.#known.has(statement)
  }

  /** HOT. It is being used. */
  touch(statement: Statement): void {
    if (statement === this.#latest) return
    const description = this.#known.get(statement) ?? null
    this.#known.delete(statement)
    this.#known.set(statement, description)
    this.#latest = statement
  }

  /** HOT. The server's description of it, valid as long as the server has it; null if unknown. */
  description(statement: Statement): string | null {
    return this.#known.get(statement) ?? null
  }

  describe(statement: Statement, description: string | null): void {
    if (this.#known.has(statement)) this.#known.set(statement, description)
  }

  #add(statement: Statement): void {
    if (this.#known.has(statement)) return
    this.#known.set(statement, null)
    this.#latest = statement
  }

  /**
   * A request was sent, with this group, after which the server will have the statement, or not. Its outcome is
   * reported by `done` or `dropped`; a dropped one restores the state before. Groups are reported in order, dropped
   * requests of one group in reverse.
   */
  change(statement: Statement, group: number, there: boolean): { done: () => void; dropped: () => void } {
    const before = this.#awaited.get(statement)
    const was = this.#known.has(statement)
    const change: Change = { group, there, settled: false, skippedAfter: null }
    this.#awaited.set(statement, change)
    this.#note(statement, there)
    const settle = (isThere: boolean): void => {
      change.there = isThere
      change.settled = true
      // A later request about it is in flight and determines what the server will have.
      if (this.#awaited.get(statement) !== change) return
      if (before === undefined || before.settled) this.#awaited.delete(statement)
      else this.#awaited.set(statement, before)
      this.#note(statement, isThere)
    }
    const dropped = (): void => {
      if (before !== undefined && !before.settled) change.skippedAfter = before
      settle(before === undefined ? was : thereAfter(before))
    }
    return { done: () => settle(there), dropped }
  }

  #note(statement: Statement, there: boolean): void {
    if (there) this.#add(statement)
    else this.#remove(statement)
  }

  /** It was sent before a Sync, so its outcome is independent of what is sent now. */
  isAwaitedFromBefore(statement: Statement, group: number): boolean {
    if (this.#awaited.size === 0) return false
    const sent = this.#awaited.get(statement)
    return sent !== undefined && sent.group !== group
  }

  #remove(statement: Statement): void {
    this.#known.delete(statement)
    if (statement === this.#latest) this.#latest = null
  }

  /** The least recently used one beyond `countMax`. */
  surplus(countMax: number): Statement | undefined {
    if (this.#known.size <= countMax) return undefined
    return this.#known.keys().next().value
  }

  /** The session was emptied: DISCARD ALL or DEALLOCATE ALL. */
  clear(): void {
    this.#known.clear()
    this.#awaited.clear()
    this.#latest = null
    this.#doubtful = false
  }

  doubt(): void {
    this.#known.clear()
    this.#awaited.clear()
    this.#latest = null
    this.#doubtful = true
  }
}

/** HOT. A Describe or Close of a portal. */
export function namesPortal(bytes: Uint8Array, tag: number, body: number): boolean {
  return (tag === FrontendTag.Describe || tag === FrontendTag.Close) && bytes[body] !== statementKind
}

/**
 * HOT. Offset of the statement's name in a Parse, Bind, Describe or Close whose body begins at `body`; it ends at the
 * next NUL. `end` if it begins later.
 */
export function nameStart(bytes: Uint8Array, tag: number, body: number, end: number): number {
  const before = tag === FrontendTag.Bind ? nulAt(bytes, body, end) : body
  return Math.min(tag === FrontendTag.Parse ? before : before + 1, end)
}

/** HOT. The next NUL; names are short, so a loop is faster than a call. `end` if there is none before it. */
export function nulAt(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  while (at < end && bytes[at] !== 0) at++
  return at
}

/** 'S' in Describe and Close: a statement; 'P' is a portal. */
const statementKind = 0x53

/**
 * Whether an error contradicts what is known of a server's statements: one is missing (26000), one exists already
 * (42P05), or its columns have changed (0A000 by RevalidateCachedQuery).
 */
export function contradictsStatements(error: ErrorFields): boolean {
  return error.code === '26000' || error.code === '42P05' || planHasChanged(error)
}

/** Whether an error tells of a change of the schema, which may not have come through this process. */
export function planHasChanged({ code, routine }: ErrorFields): boolean {
  return code === '0A000' && routine === 'RevalidateCachedQuery'
}

const deallocate = /^\s*deallocate\s+(?:prepare\s+)?(?:"((?:[^"]|"")+)"|([a-z_\x80-\uffff][\w$\x80-\uffff]*))\s*;?\s*$/i

/**
 * The name that an SQL text deallocates, folded as in PostgreSQL; null if it is not a single DEALLOCATE of one name.
 * ALL differs from a name by the lack of quotes.
 */
export function deallocatedName(sql: string): string | null {
  const match = deallocate.exec(sql)
  if (match === null) return null
  const [, quoted, plain] = match
  if (quoted !== undefined) return quoted.replaceAll('""', '"')
  const folded = (plain as string).toLowerCase()
  return folded === 'all' || folded === 'prepare' ? null : folded
}

const quotedServerName = new RegExp(`"(${serverNamePrefix}\\d+)"`, 'g')

/**
 * An ErrorResponse that contains the server's name of a statement, with the client's name in its place; null if it does
 * not. `asked` is the name in the request, if known; `bytes` from `start` to `end` are the whole message.
 */
export function errorInClientsWords(
  names: ClientStatements,
  asked: Uint8Array | undefined,
  bytes: Uint8Array,
  start: number,
  end: number,
): Uint8Array | null {
  // In Latin-1 every byte is a character, whatever the client's encoding.
  const body = Buffer.from(bytes.subarray(start + headerBytes, end)).toString('latin1')
  if (!body.includes(`"${serverNamePrefix}`)) return null
  const told = body.replaceAll(quotedServerName, (asItIs, serverName: string) => {
    const name = asked ?? names.nameOf(serverName)
    return name === undefined ? asItIs : `"${Buffer.from(name).toString('latin1')}"`
  })
  return write.message(bytes[start] as number, Buffer.from(told, 'latin1'))
}

const takesAllAway = /^\s*(?:deallocate\s+(?:prepare\s+)?all|discard\s+all)\b/i

/** Whether a text drops all statements of its session. */
export function deallocatesAll(sql: string): boolean {
  return takesAllAway.test(sql)
}
