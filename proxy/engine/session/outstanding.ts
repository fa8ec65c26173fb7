/** What a client has asked of a server and the server has not finished answering. */
export const RequestKind = {
  Parse: 1,
  Bind: 2,
  Describe: 3,
  Close: 4,
  Execute: 5,
  Sync: 6,
  Query: 7,
  FunctionCall: 8,
  /** CopyDone or CopyFail sent ahead of the server's CopyInResponse: nothing answers it. */
  CopyEnd: 9,
  /** Parse and Close of the statement without a name, where each client has its own. */
  UnnamedParse: 10,
  UnnamedClose: 11,
  /** Parse of a name: forwarded, and its outcome is noted. */
  NamedParse: 12,
  /** Parse of ours, for a statement its client has prepared on another server: the answer is not for the client. */
  OwnParse: 13,
  /** Close of ours, to make room: the answer is not for the client. */
  OwnClose: 14,
  /** Describe of ours, of a statement that its client has been told of: the answer is not for the client. */
  OwnDescribe: 15,
  /** A Bind that the server is made to refuse: the error that the client gets is the note's. */
  RefusedBind: 16,
  /** Something the server is not asked: answered by us when its turn comes. */
  Local: 17,
} as const
export type RequestKind = (typeof RequestKind)[keyof typeof RequestKind]

/** What becomes of a request whose outcome matters to somebody. */
export interface Note {
  /** The server has done it. */
  readonly done?: () => void
  /** An error before it, or its own: the server has not done it. */
  readonly dropped?: () => void
  /** Of an OwnDescribe: what the server says, as `descriptionOf` gives it. */
  readonly described?: (description: string) => void
  /** Of a Local request: the bytes that answer it, made when its turn comes. */
  readonly answer?: () => Uint8Array
  /** Of a RefusedBind: the whole ErrorResponse. */
  readonly refusal?: Uint8Array
  /** The client's name for what it speaks of, for errors. */
  readonly name?: Uint8Array
}

/** A statement of a client that it may be told the result columns of. */
export interface Described {
  /** What the client was told last, as `descriptionOf` gives it; null while it was told nothing. */
  readonly description: string | null
  /** HOT. It is told now: `bytes` from `start` to `end` are the body of a RowDescription or NoData. */
  describe(tag: number, bytes: Uint8Array, start: number, end: number): void
}

/** Requests one client may have in flight before it is refused with 54000. */
const outstandingMax = 4 * 1024 * 1024

const firstCapacity = 32

/**
 * The requests a server owes answers to, in order (PostgreSQL manual, "Message Flow": "Extended Query", "Pipelining",
 * "COPY Operations"). Fed with the client's messages as they are forwarded and with the server's replies as they
 * arrive; it alone decides whether a server is free of obligations.
 *
 * HOT: a ring of bytes, nothing allocated per message once it has its size.
 */
export class Outstanding {
  #ring = new Uint8Array(firstCapacity)
  /** Of each Describe in the ring: whose description its answer is; null where nobody keeps it. */
  #subjects: (Described | null)[] = Array.from({ length: firstCapacity }, () => null)
  #head = 0
  #count = 0
  /** An error was answered and the Sync that ends it has not been sent yet: the server ignores all else. */
  #skipping = false
  /** Extended requests were sent and no Sync yet: the server is inside an implicit transaction, answered or not. */
  #unsynced = false
  /** The server is in COPY IN and ignores Sync and Flush until CopyDone or CopyFail. */
  #copying = false
  /** Syncs that the server ignores if the copy it is in, or was in last, has read so far before it fails. */
  #ignoredSyncs = 0
  /** A copy failed and nobody can know whether such a Sync will be answered: see `doubtful`. */
  #doubtful = false
  /** A reply came that nobody asked for: the server must not be used again. */
  #lost = false
  /** The server has said its last. */
  #over = false
  /** For the requests from NamedParse on, in their order. */
  readonly #notes: Note[] = []
  /** Of the last error: the request that failed was a Parse of the statement without a name. */
  failedParse = false
  /** Of the last error: requests that would change the statement without a name and were skipped by it. */
  skippedChanges = 0
  /** Of the last error: such requests that were sent after the Sync at which the skipping ends. */
  laterChanges = 0

  /** Nothing is owed. */
  get empty(): boolean {
    return this.#count === 0 && !this.#unsynced && !this.#skipping && !this.#lost
  }

  /** What comes before a Sync is not done. */
  get skipping(): boolean {
    return this.#skipping
  }

  get lost(): boolean {
    return this.#lost
  }

  /**
   * Another ReadyForQuery may come than those that are owed: this client can go on, nobody else may have the server.
   * A Sync sent during COPY IN is ignored if the copy still reads, and answered if it has failed before; libpq sends
   * one after every Execute.
   */
  get doubtful(): boolean {
    return this.#doubtful
  }

  get count(): number {
    return this.#count
  }

  /** Forgets everything: for a server that starts anew. */
  clear(): void {
    this.#head = 0
    this.#count = 0
    this.#unsynced = false
    this.#skipping = false
    this.#copying = false
    this.#ignoredSyncs = 0
    this.#doubtful = false
    this.#lost = false
    this.#notes.length = 0
    this.#subjects.fill(null)
  }

  /** The server takes the data of a COPY: every other message ends it. */
  get copying(): boolean {
    return this.#copying
  }

  /** A ReadyForQuery is owed: whether the transaction will have failed by then is not known. */
  get readyOwed(): boolean {
    for (let index = 0; index < this.#count; index++) {
      if (endsGroup(this.#ring[(this.#head + index) & (this.#ring.length - 1)] as RequestKind)) return true
    }
    return false
  }

  /** The name that the oldest unanswered request speaks of, where that is noted. */
  get askedName(): Uint8Array | undefined {
    return this.#front() >= RequestKind.NamedParse ? this.#notes[0]?.name : undefined
  }

  /** Whether answers of our own, or answers that are not for the client, may come up. */
  get noted(): boolean {
    return this.#notes.length > 0
  }

  /** The oldest unanswered request is a Describe whose answer somebody keeps: it must be whole. */
  get keepsDescription(): boolean {
    const head = this.#front()
    if (head === RequestKind.Describe) return this.#subjects[this.#head] !== null
    return head === RequestKind.OwnDescribe
  }

  /** The client's own error in place of the one with which the server answers the oldest request. */
  get refusal(): Uint8Array | undefined {
    return this.#front() === RequestKind.RefusedBind ? this.#notes[0]?.refusal : undefined
  }

  /**
   * False when the limit is reached. Requests from NamedParse on come with a note; a Describe with the statement whose
   * description its answer is, if that is kept.
   */
  push(request: RequestKind, note?: Note, subject: Described | null = null): boolean {
    if (this.#skipping) {
      if (request !== RequestKind.Sync) {
        note?.dropped?.()
        return true
      }
      this.#skipping = false
      this.#unsynced = false
    }
    if (this.#copying) {
      if (request === RequestKind.Sync) {
        this.#ignoredSyncs++
        return true
      }
      if (request === RequestKind.CopyEnd) {
        this.#copying = false
        return true
      }
    }
    if (request === RequestKind.CopyEnd && this.#count === 0) return true
    if (this.#count === this.#ring.length && !this.#grow()) return false
    if (request !== RequestKind.CopyEnd) this.#unsynced = !endsGroup(request)
    if (note !== undefined) this.#notes.push(note)
    this.#append(request, subject)
    return true
  }

  /** BindComplete answers a Bind. */
  bound(): void {
    this.#answered(RequestKind.Bind)
  }

  /** ParseComplete: true when it is for the client. */
  parsed(): boolean {
    const head = this.#front()
    if (head === RequestKind.UnnamedParse) this.#pop()
    else if (head < RequestKind.NamedParse) this.#answered(RequestKind.Parse)
    else if (head === RequestKind.NamedParse || head === RequestKind.OwnParse) this.#settle()
    else this.#lost = true
    return head !== RequestKind.OwnParse
  }

  /** CloseComplete: true when it is for the client. */
  closed(): boolean {
    const head = this.#front()
    if (head === RequestKind.OwnClose) this.#settle()
    else if (head === RequestKind.UnnamedClose) this.#pop()
    else this.#answered(RequestKind.Close)
    return head !== RequestKind.OwnClose
  }

  /** What we answer ourselves now, because everything before it has been answered; null when nothing. */
  local(): Uint8Array | null {
    if (this.#over || this.#front() !== RequestKind.Local) return null
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
    else if (head !== RequestKind.Query) this.#unexpected()
  }

  #settle(): void {
    this.#pop()
    this.#notes.shift()?.done?.()
  }

  /** What is described is asked by us: neither ParameterDescription nor RowDescription or NoData are for the client. */
  get describesOwn(): boolean {
    return this.#front() === RequestKind.OwnDescribe
  }

  /**
   * RowDescription or NoData answers a Describe, or RowDescription begins a simple query's result. Gives the statement
   * that a Describe of the client's was about, if its `description` is kept.
   */
  described(): Described | null {
    const head = this.#front()
    if (head === RequestKind.Describe) {
      const subject = this.#subjects[this.#head] as Described | null
      this.#pop()
      return subject
    }
    if (head !== RequestKind.Query) this.#unexpected()
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
    if (head === RequestKind.Execute) this.#pop()
    else if (head !== RequestKind.Query) this.#unexpected()
  }

  /** CopyInResponse: every Sync sent before the end of the copy will be ignored. */
  copyIn(): void {
    const head = this.#front()
    if (head !== RequestKind.Execute && head !== RequestKind.Query) {
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
        if (request === RequestKind.Sync) {
          this.#ignoredSyncs++
          continue
        }
        // Anything else ends the copy: it is its end, or it makes it fail, if it has not failed before.
        this.#copying = false
        if (request === RequestKind.CopyEnd) continue
      }
      this.#append(request, subjects[at] as Described | null)
      if (request !== RequestKind.CopyEnd) this.#unsynced = !endsGroup(request)
    }
  }

  /**
   * ErrorResponse: in the extended protocol everything up to the next Sync is skipped. `failedParse`, `skippedChanges`
   * and `laterChanges` say what that means to the statement without a name.
   */
  failed(): void {
    this.#copying = false
    if (this.#ignoredSyncs > 0) this.#doubtful = true
    this.#ignoredSyncs = 0
    this.failedParse = false
    this.skippedChanges = 0
    this.laterChanges = 0
    const head = this.#front()
    if (head === 0 || head === RequestKind.Sync || head === RequestKind.Query || head === RequestKind.FunctionCall) {
      return
    }
    this.failedParse = head === RequestKind.UnnamedParse
    let dropped = 0
    while (this.#count > 0 && this.#ring[this.#head] !== RequestKind.Sync) {
      const request = this.#ring[this.#head] as RequestKind
      if (changesUnnamed(request)) this.skippedChanges++
      if (request >= RequestKind.NamedParse) dropped++
      this.#pop()
    }
    if (this.failedParse) this.skippedChanges--
    this.laterChanges = this.#countChanges()
    // Backwards, as what was done is undone.
    for (const note of this.#notes.splice(0, dropped).toReversed()) note.dropped?.()
    this.#skipping = this.#count === 0
  }

  /** ReadyForQuery ends a Sync, a simple query or a function call. */
  ready(): void {
    this.#copying = false
    const head = this.#front()
    if (head === RequestKind.Sync || head === RequestKind.Query || head === RequestKind.FunctionCall) this.#pop()
    else if (this.#skipping && this.#doubtful) {
      this.#skipping = false
      this.#unsynced = false
    } else this.#unexpected()
    // The end of a copy that failed was sent too, and nothing will answer it.
    this.#front()
  }

  #unexpected(): void {
    if (!this.#doubtful) this.#lost = true
  }

  /** The oldest unanswered request, or 0; copy ends that turned out to belong to no copy are dropped on the way. */
  #front(): number {
    while (this.#count > 0 && this.#ring[this.#head] === RequestKind.CopyEnd) this.#pop()
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

  /** Takes everything out, into a ring of `capacity`; gives what there was. */
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

/** What takes the statement without a name away, or gives another (manual, "Extended Query"). */
function changesUnnamed(request: RequestKind): boolean {
  return request === RequestKind.UnnamedParse || request === RequestKind.Query || request === RequestKind.UnnamedClose
}

/** What is answered with ReadyForQuery: it ends the implicit transaction of the extended requests before it. */
function endsGroup(request: RequestKind): boolean {
  return request === RequestKind.Sync || request === RequestKind.Query || request === RequestKind.FunctionCall
}
