/**
 * The unnamed statement in transaction mode. A session has one, whichever client parsed it, so a Bind on a server where
 * another client has parsed since, or the same client another text, would execute the wrong text. So each client has
 * its own: its last Parse is kept with a stamp, a server records which stamp it has, and a Bind or Describe on a server
 * with any other is preceded by that Parse. A simple Query, a Close and a failed Parse drop it (manual, "Extended
 * Query"); a request skipped after an error changes nothing.
 */
import { copyBytes } from '../../io/copy.ts'
import { headerBytes } from '../../protocol/framing.ts'
import { FrontendTag } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'
import { descriptionOf } from './description.ts'
import type { Described, Note, Outstanding } from './outstanding.ts'
import type { StatementMemory } from './statement-memory.ts'

/** A longer Parse is kept as it arrives, in memory of its own; others in powers of two. */
const usualBytesMax = 16_384
const firstBytes = 128

/**
 * Changes kept while requests are unanswered. An error that skips more leaves the client without the statement, as if
 * it had been closed.
 */
const changesMax = 16

/** Stamps are small integers in V8; a client that has used all of them starts over under another identity. */
const stampMax = 2 ** 30

/** Bytes in reused memory. */
class Kept {
  #bytes: Buffer | null = null
  #length = 0
  /** Where a long message is counted; null for others. */
  #memory: StatementMemory | null = null

  /** Null without any, or if they have not arrived completely. */
  get bytes(): Uint8Array | null {
    if (this.#bytes === null || this.#length === 0) return null
    if (this.#memory === null) return this.#bytes.subarray(0, this.#length)
    return this.#length < this.#bytes.length ? null : this.#bytes
  }

  /** HOT. */
  clear(): void {
    this.#length = 0
    if (this.#memory !== null) this.#release(this.#memory)
  }

  #release(memory: StatementMemory): void {
    memory.release(this.#bytes?.length ?? 0)
    this.#memory = null
    this.#bytes = null
  }

  /** HOT. */
  keep(bytes: Uint8Array, start: number, end: number): void {
    const length = end - start
    if (this.#bytes === null || length > this.#bytes.length) {
      this.#bytes = Buffer.allocUnsafeSlow(Math.max(firstBytes, 2 ** Math.ceil(Math.log2(length))))
    }
    copyBytes(bytes, start, end, this.#bytes, 0)
    this.#length = length
  }

  /** A message of this length begins to arrive. */
  expect(length: number, memory: StatementMemory): void {
    memory.add(length)
    this.#memory = memory
    this.#bytes = Buffer.allocUnsafeSlow(length)
  }

  /** No effect after `clear`. */
  keepMore(bytes: Uint8Array, start: number, end: number): void {
    if (this.#memory === null || this.#bytes === null || this.#length === this.#bytes.length) return
    this.#bytes.set(bytes.subarray(start, end), this.#length)
    this.#length += end - start
  }
}

/** A request that creates or drops the statement. */
export class UnnamedChange implements Described {
  /** 0 without a statement. */
  stamp = 0
  readonly #parse = new Kept()
  readonly #description = new Kept()
  /** Of its parameters, as the client was told. */
  readonly #types = new Kept()
  #descriptionTag = 0

  /**
   * The whole Parse message, with the types of parameters that the client was told, valid until the next change; null
   * without one, or if it was not kept.
   */
  get parse(): Uint8Array | null {
    const parse = this.#parse.bytes
    const types = this.#types.bytes
    if (parse === null || types === null) return parse
    const textEnd = parse.indexOf(0, headerBytes + 1) + 1
    return write.parseMessage('', Buffer.concat([parse.subarray(headerBytes + 1, textEnd), types]))
  }

  get description(): string | null {
    if (this.#descriptionTag === 0) return null
    const { bytes } = this.#description
    return bytes === null ? '' : descriptionOf(this.#descriptionTag, bytes, 0, bytes.length)
  }

  get told(): boolean {
    return this.#descriptionTag !== 0
  }

  /** HOT. */
  begin(stamp: number): void {
    this.stamp = stamp
    this.clear()
  }

  /** HOT. */
  clear(): void {
    this.#parse.clear()
    this.#description.clear()
    this.#types.clear()
    this.#descriptionTag = 0
  }

  /** A long Parse begins to arrive. */
  expect(length: number, memory: StatementMemory): void {
    this.#parse.expect(length, memory)
  }

  keepMore(bytes: Uint8Array, start: number, end: number): void {
    this.#parse.keepMore(bytes, start, end)
  }

  /** HOT. The whole Parse message. */
  keep(bytes: Uint8Array, start: number, end: number): void {
    this.#parse.keep(bytes, start, end)
  }

  fixTypes(bytes: Uint8Array, start: number, end: number): void {
    this.#types.keep(bytes, start, end)
  }

  describe(tag: number, bytes: Uint8Array, start: number, end: number): void {
    this.#descriptionTag = tag
    this.#description.keep(bytes, start, end)
  }
}

/** A client's unnamed statement, with changes whose outcome is unknown. */
export class UnnamedStatement {
  /** The first `#count` are in use, oldest first; the others are kept for their memory. */
  readonly #changes: UnnamedChange[] = []
  #count = 0
  #lastStamp = 0
  /** Its long Parse is arriving, or was the last to arrive; null if the last one was not kept. */
  #arriving: UnnamedChange | null = null
  /** The client's group of requests of the last change. */
  group = 0
  #unanswered = false

  /** The statement after the last change. */
  get current(): UnnamedChange | null {
    return this.#count === 0 ? null : (this.#changes[this.#count - 1] as UnnamedChange)
  }

  /** 0 without a statement. */
  get stamp(): number {
    return this.current?.stamp ?? 0
  }

  /** Whether the last change may still be undone by an error. */
  get unanswered(): boolean {
    return this.#unanswered
  }

  /** Everything up to the last change was answered. */
  settle(): void {
    this.#unanswered = false
  }

  get exhausted(): boolean {
    return this.#lastStamp === stampMax
  }

  /** HOT. A Parse is forwarded in this `group`; earlier changes are `settled` if every request was answered. */
  parsed(settled: boolean, group: number): UnnamedChange {
    const change = this.#next(settled, group)
    change.begin(++this.#lastStamp)
    this.#arriving = null
    return change
  }

  /** The first part of a long Parse of `length` bytes, which begins this change. */
  keepLong(
    change: UnnamedChange,
    bytes: Uint8Array,
    start: number,
    end: number,
    length: number,
    memory: StatementMemory,
  ) {
    change.expect(length, memory)
    change.keepMore(bytes, start, end)
    this.#arriving = change
  }

  /** A further part of the last message, if that is a Parse which is kept. */
  keepMore(bytes: Uint8Array, start: number, end: number): void {
    this.#arriving?.keepMore(bytes, start, end)
  }

  /** Nothing is kept any more. */
  clear(): void {
    for (const change of this.#changes) change.clear()
    this.#count = 0
  }

  /** HOT. A request that drops the statement is forwarded. */
  taken(settled: boolean, group: number): void {
    if (settled && this.stamp === 0) return
    this.#next(settled, group).begin(0)
  }

  #next(settled: boolean, group: number): UnnamedChange {
    if (settled && this.#count > 1) this.#keepLast()
    // Its description may be in flight, so it is not reused.
    if (this.#count === changesMax) this.#changes.shift()?.clear()
    else this.#count++
    this.group = group
    this.#unanswered = true
    const last = this.#count - 1
    return (this.#changes[last] ??= new UnnamedChange())
  }

  #keepLast(): void {
    const last = this.#changes[this.#count - 1] as UnnamedChange
    this.#changes[this.#count - 1] = this.#changes[0] as UnnamedChange
    this.#changes[0] = last
    this.#count = 1
    for (let at = 1; at < this.#changes.length; at++) (this.#changes[at] as UnnamedChange).clear()
    if (this.#changes.length > 2) this.#changes.length = 2
  }

  /**
   * An error was answered: `skipped` changes will not happen, `later` ones were sent after the Sync that ends the
   * skipping; the failed request was itself a Parse if `failed`.
   */
  undo(failed: boolean, skipped: number, later: number): void {
    const end = this.#count - later
    const start = end - skipped
    if (failed && start > 0) (this.#changes[start - 1] as UnnamedChange).begin(0)
    const first = Math.max(0, start)
    const undone = this.#changes.splice(first, Math.max(0, end) - first)
    for (const change of undone) change.clear()
    this.#count -= undone.length
    this.#changes.push(...undone)
  }
}

/** A client, as the owner of such a statement. */
export interface Owner {
  unnamed: UnnamedStatement | null
  readonly group: number
  /** HOT. Its unnamed portal is bound to this, or to something unknown. */
  bindPortal(bound: Described | null): void
  readonly pool: { readonly statements: { readonly memory: StatementMemory } }
}

/** A server, whose session has one. */
export interface Session {
  readonly outstanding: Outstanding
  readonly unnamed: ServerUnnamed
}

export const closeUnnamed = write.closeStatement('')
export const describeUnnamed = write.describeStatement('')

/** What a server's session has, when it has processed everything sent: whose unnamed statement, of which Parse. */
export class ServerUnnamed {
  /** Null if unknown, or none. */
  #of: UnnamedStatement | null = null
  #stamp = 0
  /** False while our Parse of it is unanswered. */
  #sure = true
  /** Its description, if we requested it. */
  #description: string | null = null
  #shared = false

  get sure(): boolean {
    return this.#sure
  }

  get description(): string | null {
    return this.#description
  }

  /** It may be any client's: the server has served transactions and has run nothing of ours since. */
  get shared(): boolean {
    return this.#shared
  }

  /** HOT. A client's transaction is served. */
  share(): void {
    this.#shared = true
  }

  /** A simple query or Parse of ours replaces it. */
  takeOver(): void {
    this.#of = null
    this.#shared = false
  }

  /** HOT. It is dropped, or unknown from now on. */
  drop(): void {
    this.#of = null
  }

  /** HOT. */
  is(own: UnnamedStatement, stamp: number): boolean {
    return this.#of === own && this.#stamp === stamp
  }

  /** HOT. Its owner's Parse is forwarded. */
  parsed(own: UnnamedStatement, stamp: number): void {
    this.#of = own
    this.#stamp = stamp
    this.#sure = true
    this.#description = null
  }

  /** Our Parse of it is sent; by the time of the answer the client may have parsed another one. */
  parse(own: UnnamedStatement, stamp: number): Note {
    this.parsed(own, stamp)
    this.#sure = false
    return {
      done: () => {
        if (this.is(own, stamp)) this.#sure = true
      },
      dropped: () => {
        if (this.is(own, stamp)) this.#of = null
      },
    }
  }

  /** The answer to our Describe of it. */
  describe(own: UnnamedStatement, stamp: number, description: string): void {
    if (this.is(own, stamp)) this.#description = description
  }
}

/** HOT. An unnamed Parse, at `at`, is forwarded to the server. */
export function parsedUnnamed(
  client: Owner,
  server: Session,
  bytes: Uint8Array,
  at: number,
  next: number,
  end: number,
): void {
  const change = parseUnkept(client, server)
  if (change === null) return
  const length = next - at
  if (length <= usualBytesMax && next <= end) change.keep(bytes, at, next)
  else keepLong(client, change, bytes, at, Math.min(next, end), length)
}

/** Where there is no room for it, PostgreSQL itself will say that there is no such statement. */
function keepLong(
  client: Owner,
  change: UnnamedChange,
  bytes: Uint8Array,
  start: number,
  end: number,
  length: number,
): void {
  const { memory } = client.pool.statements
  if (length > memory.textBytesMax || !memory.hasRoom(length)) return
  client.unnamed?.keepLong(change, bytes, start, end, length, memory)
}

/** HOT. An unnamed Parse is forwarded that is valid on this server only, and not kept. */
export function parseUnkept(client: Owner, server: Session): UnnamedChange | null {
  if (server.outstanding.skipping) return null
  let own = client.unnamed
  if (own === null || own.exhausted) {
    own?.clear()
    own = client.unnamed = new UnnamedStatement()
  }
  const change = own.parsed(server.outstanding.count === 0, client.group)
  server.unnamed.parsed(own, change.stamp)
  client.bindPortal(null)
  return change
}

/** HOT. A simple Query or a Close of it is forwarded. */
export function unnamedGone(client: Owner, server: Session): void {
  if (server.outstanding.skipping) return
  server.unnamed.drop()
  client.unnamed?.taken(server.outstanding.count === 0, client.group)
}

/** After an error: the outcome of skipped Parses is unknown, so the session's statement is unknown. */
export function unnamedFailed(client: Owner, server: Session): void {
  const { failedParse, skippedChanges, laterChanges } = server.outstanding
  if (!failedParse && skippedChanges === 0) return
  // A later Parse or Query decides, which the server executes after the Sync that ends the skipping.
  if (laterChanges === 0) server.unnamed.drop()
  client.unnamed?.undo(failedParse, skippedChanges, laterChanges)
}

/** HOT. A Bind or Describe of the unnamed statement might find another client's, or an earlier one. */
export function lacksUnnamed(client: Owner, server: Session, tag: number): boolean {
  if ((tag !== FrontendTag.Bind && tag !== FrontendTag.Describe) || server.outstanding.copying) return false
  const own = client.unnamed
  if (own === null || !server.unnamed.is(own, own.stamp)) return true
  if (own.group === client.group) return false
  return own.unanswered || !server.unnamed.sure || server.unnamed.description !== null
}

/** HOT. The body of a Close of the unnamed statement: Byte1 'S', String "". */
export function isUnnamedStatement(bytes: Uint8Array, body: number): boolean {
  return bytes[body] === 0x53 && bytes[body + 1] === 0
}
