import { Queue } from './queue.ts'

/** Requests of a client that the server has not completely answered. */
const kinds = {
  Parse: 1,
  Bind: 2,
  Describe: 3,
  Close: 4,
  Execute: 5,
  Sync: 6,
  Query: 7,
  FunctionCall: 8,
  /** CopyDone or CopyFail sent before the server's CopyInResponse: nothing answers it. */
  CopyEnd: 9,
  /** Parse and Close of the unnamed statement, where each client has its own. */
  UnnamedParse: 10,
  UnnamedClose: 11,
  /** Parse of a named statement: forwarded, and its outcome is recorded. */
  NamedParse: 12,
  /** Our Parse of a statement that the client prepared on another server: the answer is not for the client. */
  OwnParse: 13,
  /** Our Close, to make room: the answer is not for the client. */
  OwnClose: 14,
  /** Our Describe of a statement that was described to the client: the answer is not for the client. */
  OwnDescribe: 15,
  /** A Bind that the server is made to reject: the client gets the error of the note. */
  RefusedBind: 16,
  /** A request not sent to the server: answered by us in its turn. */
  Local: 17,
} as const
/** HOT. This module uses `kinds`, which V8 folds, as it does not fold what is exported. */
export const RequestKind = kinds
export type RequestKind = (typeof RequestKind)[keyof typeof RequestKind]

/** Outcome of a request, for requests whose outcome matters. */
export interface Note {
  /** The server has executed it. */
  readonly done?: () => void
  /** An error before it, or its own: the server has not executed it. */
  readonly dropped?: () => void
  /** For an OwnDescribe: the server's description, as returned by `descriptionOf`. */
  readonly described?: (description: string) => void
  /** For a Local request: the bytes of the answer, created in its turn. */
  readonly answer?: () => Uint8Array
  /** For a RefusedBind: the whole ErrorResponse. */
  readonly refusal?: Uint8Array
  /** The client's name of the statement, for errors. */
  readonly name?: Uint8Array
}

/** A statement of a client whose result columns the client may be told. */
export interface Described {
  /** The description the client was last told, as returned by `descriptionOf`; null before. */
  readonly description: string | null
  /** HOT. The client is told now: `bytes` from `start` to `end` are the body of a RowDescription or NoData. */
  describe(tag: number, bytes: Uint8Array, start: number, end: number): void
  /**
   * HOT. The client is told the types of its parameters: `bytes` from `start` to `end` are the body of a
   * ParameterDescription, Int16 count and Int32 types, as they end a Parse.
   */
  fixTypes(bytes: Uint8Array, start: number, end: number): void
}

/** Requests a client may have in flight before it is rejected with 54000. */
const outstandingMax = 4 * 1024 * 1024

const firstCapacity = 32

/**
 * The requests a server owes answers to, in order (PostgreSQL manual, "Message Flow": "Extended Query", "Pipelining",
 * "COPY Operations"). It is fed with the client's messages as they are forwarded and with the server's replies as they
 * arrive; it alone decides whether a server is free of obligations.
 *
 * HOT: a ring of bytes; nothing is allocated per message once it has its size.
 */
export class Outstanding {
  #ring = new Uint8Array(firstCapacity)
  /** For each Describe in the ring the statement that keeps the description, for a Bind what it binds; null for none. */
  #subjects: (Described | null)[] = Array.from({ length: firstCapacity }, () => null)
  #head = 0
  #count = 0
  /** An error was answered and the Sync that ends it was not sent yet: the server ignores everything else. */
  #skipping = false
  /** Extended requests were sent without a Sync: the server is in an implicit transaction, answered or not. */
  #unsynced = false
  /** The server is in COPY IN and ignores Sync and Flush until CopyDone or CopyFail. */
  #copying = false
  /** Syncs that the server ignores if its present or last copy has read up to them before it fails. */
  #ignoredSyncs = 0
  /** A copy failed, and it is unknown whether such a Sync will be answered: see `doubtful`. */
  #doubtful = false
  /** An unsolicited reply arrived: the server must not be reused. */
  #lost = false
  /** The server has sent its last message. */
  #over = false
  /** For the requests from NamedParse on, in order. */
  readonly #notes = new Queue<Note>()
  /** For the last error: the failed request was a Parse of the unnamed statement. */
  failedParse = false
  /** For the last error: the statement of a failed Bind or Describe, if recorded. */
  failedSubject: Described | null = null
  /** For the last error: number of skipped requests that would have changed the unnamed statement. */
  skippedChanges = 0
  /** For the last error: number of such requests sent after the Sync that ends the skipping. */
  laterChanges = 0

  /** Nothing is owed. */
  get empty(): boolean {
    return this.#count === 0 && !this.#unsynced && !this.#skipping && !this.#lost
  }

  /** Requests before a Sync are not executed. */
  get skipping(): boolean {
    return this.#skipping
  }

  get lost(): boolean {
    return this.#lost
  }

  /**
   * Another ReadyForQuery may come than those owed: this client can continue, but no other may have the server. A Sync
   * sent during COPY IN is ignored if the copy still reads, and answered if it has failed before; libpq sends one after
   * every Execute.
   */
  get doubtful(): boolean {
    return this.#doubtful
  }

  get count(): number {
    return this.#count
  }

  /** Forgets everything, for a server that starts anew. */
  clear(): void {
    this.#head = 0
    this.#count = 0
    this.#unsynced = false
    this.#skipping = false
    this.#copying = false
    this.#ignoredSyncs = 0
    this.#doubtful = false
    this.#lost = false
    this.#notes.clear()
    this.#subjects.fill(null)
  }

  /** The server reads COPY data: every other message ends it. */
  get copying(): boolean {
    return this.#copying
  }

  /** A ReadyForQuery is owed: whether the transaction will have failed by then is unknown. */
  get readyOwed(): boolean {
    for (let index = 0; index < this.#count; index++) {
      if (endsGroup(this.#ring[(this.#head + index) & (this.#ring.length - 1)] as RequestKind)) return true
    }
    return false
  }

  /** A description requested by us is owed. */
  get ownDescribeOwed(): boolean {
    for (let index = 0; index < this.#count; index++) {
      if (this.#ring[(this.#head + index) & (this.#ring.length - 1)] === kinds.OwnDescribe) return true
    }
    return false
  }

  /** The name in the oldest unanswered request, if recorded. */
  get askedName(): Uint8Array | undefined {
    return this.#front() >= kinds.NamedParse ? this.#notes.first?.name : undefined
  }

  /** HOT. The next answer is ours. */
  get localDue(): boolean {
    return this.#notes.size > 0 && !this.#over && this.#front() === kinds.Local
  }

  /** Whether local answers, or answers that are not for the client, are outstanding. */
  get noted(): boolean {
    return this.#notes.size > 0
  }

  /** The oldest unanswered request is a Describe whose description is kept: its answer must be whole. */
  get keepsDescription(): boolean {
    const head = this.#front()
    if (head === kinds.Describe) return this.#subjects[this.#head] !== null
    return head === kinds.OwnDescribe
  }

  /** What the client's Describe at the front describes, if its description is kept. */
  get beingDescribed(): Described | null {
    return this.#front() === kinds.Describe ? (this.#subjects[this.#head] as Described | null) : null
  }

  /** The client's own error, in place of the server's for the oldest request. */
  get refusal(): Uint8Array | undefined {
    return this.#front() === kinds.RefusedBind ? this.#notes.first?.refusal : undefined
  }

  /**
   * False if the limit is reached. Requests from NamedParse on have a note; a Describe has the statement that keeps its
   * description, if any, and a Bind of a named statement has that one.
   */
  push(request: RequestKind, note?: Note, subject: Described | null = null): boolean {
    if (this.#skipping) {
      if (request !== kinds.Sync) {
        note?.dropped?.()
        return true
      }
      this.#skipping = false
      this.#unsynced = false
    }
    if (this.#copying) {
      if (request === kinds.Sync) {
        this.#ignoredSyncs++
        return true
      }
      if (request === kinds.CopyEnd) {
        this.#copying = false
        return true
      }
    }
    if (request === kinds.CopyEnd && this.#count === 0) return true
    if (this.#count === this.#ring.length && !this.#grow()) return false
    if (request !== kinds.CopyEnd) this.#unsynced = !endsGroup(request)
    if (note !== undefined) this.#notes.push(note)
    this.#append(request, subject)
    return true
  }

  /** BindComplete answers a Bind. */
  bound(): void {
    this.#answered(kinds.Bind)
  }

  /** ParseComplete: true if it is for the client. */
  parsed(): boolean {
    const head = this.#front()
    if (head === kinds.UnnamedParse) this.#pop()
    else if (head < kinds.NamedParse) this.#answered(kinds.Parse)
    else if (head === kinds.NamedParse || head === kinds.OwnParse) this.#settle()
    else this.#lost = true
    return head !== kinds.OwnParse
  }

  /** CloseComplete: true if it is for the client. */
  closed(): boolean {
    const head = this.#front()
    if (head === kinds.OwnClose) this.#settle()
    else if (head === kinds.UnnamedClose) this.#pop()
    else this.#answered(kinds.Close)
    return head !== kinds.OwnClose
  }

  /** The local answer that is due now, because everything before it was answered; null for none. */
  local(): Uint8Array | null {
    if (this.#over || this.#front() !== kinds.Local) return null
    this.#pop()
    const note = this.#notes.shift()
    note?.done?.()
    return note?.answer?.() ?? null
  }

  /** A FATAL error: nothing may be answered after it, neither by the server nor by us. */
  end(): void {
    this.#over = true
  }

  #answered(request: RequestKind): void {
    const head = this.#front()
    if (head === request) this.#pop()
    else if (head !== kinds.Query) this.#unexpected()
  }

  #settle(): void {
    this.#pop()
    this.#notes.shift()?.done?.()
  }

  /** The description was requested by us: ParameterDescription, RowDescription and NoData are not for the client. */
  get describesOwn(): boolean {
    return this.#front() === kinds.OwnDescribe
  }

  /**
   * RowDescription or NoData answers a Describe, or RowDescription begins the result of a simple query. Returns the
   * statement of a client's Describe, if its `description` is kept.
   */
  described(): Described | null {
    const head = this.#front()
    if (head === kinds.Describe) {
      const subject = this.#subjects[this.#head] as Described | null
      this.#pop()
      return subject
    }
    if (head !== kinds.Query) this.#unexpected()
    return null
  }

  /** The answer to an OwnDescribe. */
  describedOwn(description: string): void {
    this.#pop()
    this.#notes.shift()?.described?.(description)
  }

  /** CommandComplete, EmptyQueryResponse or PortalSuspended. */
  executed(): void {
    this.#copying = false
    this.#ignoredSyncs = 0
    const head = this.#front()
    if (head === kinds.Execute) this.#pop()
    else if (head !== kinds.Query) this.#unexpected()
  }

  /** CopyInResponse: every Sync sent before the end of the copy will be ignored. */
  copyIn(): void {
    const head = this.#front()
    if (head !== kinds.Execute && head !== kinds.Query) {
      this.#unexpected()
      return
    }
    const { ring, subjects, head: start, count } = this.#empty()
    this.#copying = true
    this.#ignoredSyncs = 0
    for (let index = 0; index < count; index++) {
      const at = (start + index) & (ring.length - 1)
      const request = ring[at] as RequestKind
      if (index > 0 && this.#copying) {
        if (request === kinds.Sync) {
          this.#ignoredSyncs++
          continue
        }
        // Anything else ends the copy: it completes it, or makes it fail if it has not failed before.
        this.#copying = false
        if (request === kinds.CopyEnd) continue
      }
      this.#append(request, subjects[at] as Described | null)
      if (request !== kinds.CopyEnd) this.#unsynced = !endsGroup(request)
    }
  }

  /**
   * ErrorResponse: in the extended protocol everything up to the next Sync is skipped. `failedParse`, `skippedChanges`
   * and `laterChanges` tell the effect on the unnamed statement.
   */
  failed(): void {
    this.#copying = false
    if (this.#ignoredSyncs > 0) this.#doubtful = true
    this.#ignoredSyncs = 0
    this.failedParse = false
    this.failedSubject = null
    this.skippedChanges = 0
    this.laterChanges = 0
    const head = this.#front()
    if (head === 0 || head === kinds.Sync || head === kinds.Query || head === kinds.FunctionCall) {
      return
    }
    this.failedParse = head === kinds.UnnamedParse
    this.failedSubject = this.#subjects[this.#head] as Described | null
    let dropped = 0
    while (this.#count > 0 && this.#ring[this.#head] !== kinds.Sync) {
      const request = this.#ring[this.#head] as RequestKind
      if (changesUnnamed(request)) this.skippedChanges++
      if (request >= kinds.NamedParse) dropped++
      this.#pop()
    }
    if (this.failedParse) this.skippedChanges--
    this.laterChanges = this.#countChanges()
    // In reverse, as changes are undone.
    for (const note of this.#notes.take(dropped).toReversed()) note.dropped?.()
    this.#skipping = this.#count === 0
  }

  /** ReadyForQuery ends a Sync, a simple query or a function call. */
  ready(): void {
    this.#copying = false
    const head = this.#front()
    if (head === kinds.Sync || head === kinds.Query || head === kinds.FunctionCall) this.#pop()
    else if (this.#skipping && this.#doubtful) {
      this.#skipping = false
      this.#unsynced = false
    } else this.#unexpected()
    // The end of a failed copy was sent too, and nothing will answer it.
    this.#front()
  }

  #unexpected(): void {
    if (!this.#doubtful) this.#lost = true
  }

  /** The oldest unanswered request, or 0; drops copy ends that belong to no copy. */
  #front(): number {
    while (this.#count > 0 && this.#ring[this.#head] === kinds.CopyEnd) this.#pop()
    return this.#count === 0 ? 0 : (this.#ring[this.#head] as number)
  }

  #countChanges(): number {
    let changes = 0
    for (let index = 0; index < this.#count; index++) {
      const request = this.#ring[(this.#head + index) & (this.#ring.length - 1)] as RequestKind
      if (changesUnnamed(request)) changes++
    }
    return changes
  }

  #pop(): void {
    this.#subjects[this.#head] = null
    this.#head = (this.#head + 1) & (this.#ring.length - 1)
    this.#count--
  }

  #append(request: RequestKind, subject: Described | null): void {
    const at = (this.#head + this.#count) & (this.#ring.length - 1)
    this.#ring[at] = request
    if (subject !== null) this.#subjects[at] = subject
    this.#count++
  }

  /** Moves everything into a ring of `capacity`; returns what there was. */
  #empty(capacity = this.#ring.length): {
    ring: Uint8Array
    subjects: (Described | null)[]
    head: number
    count: number
  } {
    const former = { ring: this.#ring, subjects: this.#subjects, head: this.#head, count: this.#count }
    this.#ring = new Uint8Array(capacity)
    this.#subjects = Array.from({ length: capacity }, () => null)
    this.#head = 0
    this.#count = 0
    return former
  }

  #grow(): boolean {
    if (this.#ring.length >= outstandingMax) return false
    const { ring, subjects, head, count } = this.#empty(this.#ring.length * 2)
    for (let index = 0; index < count; index++) {
      const at = (head + index) & (ring.length - 1)
      this.#append(ring[at] as RequestKind, subjects[at] as Described | null)
    }
    return true
  }
}

/** Requests that drop or replace the unnamed statement (manual, "Extended Query"). */
function changesUnnamed(request: RequestKind): boolean {
  return request === kinds.UnnamedParse || request === kinds.Query || request === kinds.UnnamedClose
}

/** Requests answered with ReadyForQuery: they end the implicit transaction of the extended requests before. */
function endsGroup(request: RequestKind): boolean {
  return request === kinds.Sync || request === kinds.Query || request === kinds.FunctionCall
}
