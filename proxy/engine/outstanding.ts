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
  /** Parse of a name: forwarded, and its outcome is noted. */
  NamedParse: 10,
  /** Parse of ours, for a statement its client has prepared on another server: the answer is not for the client. */
  OwnParse: 11,
  /** Close of ours, to make room: the answer is not for the client. */
  OwnClose: 12,
  /** Something the server is not asked: answered by us when its turn comes. */
  Local: 13,
} as const
export type RequestKind = (typeof RequestKind)[keyof typeof RequestKind]

/** What becomes of a request whose outcome matters to somebody. */
export interface Note {
  /** The server has done it. */
  readonly done?: () => void
  /** An error before it, or its own: the server has not done it. */
  readonly dropped?: () => void
  /** Of a Local request: the bytes that answer it, made when its turn comes. */
  readonly answer?: () => Uint8Array
  /** The client's name for what it speaks of, for errors. */
  readonly name?: Uint8Array
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

  /** False when the limit is reached. Requests from NamedParse on come with a note. */
  push(request: RequestKind, note?: Note): boolean {
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
    this.#ring[(this.#head + this.#count) & (this.#ring.length - 1)] = request
    this.#count++
    return true
  }

  /** BindComplete answers a Bind. */
  bound(): void {
    this.#answered(RequestKind.Bind)
  }

  /** ParseComplete: true when it is for the client. */
  parsed(): boolean {
    const head = this.#front()
    if (head < RequestKind.NamedParse) this.#answered(RequestKind.Parse)
    else if (head === RequestKind.NamedParse || head === RequestKind.OwnParse) this.#settle()
    else this.#lost = true
    return head !== RequestKind.OwnParse
  }

  /** CloseComplete: true when it is for the client. */
  closed(): boolean {
    const head = this.#front()
    if (head === RequestKind.OwnClose) this.#settle()
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

  /** RowDescription answers a Describe, or begins a simple query's result. */
  described(): void {
    const head = this.#front()
    if (head === RequestKind.Describe) this.#pop()
    else if (head !== RequestKind.Query) this.#unexpected()
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
    const requests = this.#drain()
    this.#copying = true
    this.#ignoredSyncs = 0
    requests.forEach((request, index) => {
      if (index > 0 && this.#copying) {
        if (request === RequestKind.Sync) {
          this.#ignoredSyncs++
          return
        }
        // Anything else ends the copy: it is its end, or it makes it fail, if it has not failed before.
        this.#copying = false
        if (request === RequestKind.CopyEnd) return
      }
      this.#append(request)
      if (request !== RequestKind.CopyEnd) this.#unsynced = !endsGroup(request)
    })
  }

  /**
   * ErrorResponse: in the extended protocol everything up to the next Sync is skipped. True when the last Parse that was
   * sent as it is will not be done.
   */
  failed(): boolean {
    this.#copying = false
    if (this.#ignoredSyncs > 0) this.#doubtful = true
    this.#ignoredSyncs = 0
    const head = this.#front()
    if (head === 0 || head === RequestKind.Sync || head === RequestKind.Query || head === RequestKind.FunctionCall)
      return false
    let dropped = 0
    let parse = false
    while (this.#count > 0 && this.#ring[this.#head] !== RequestKind.Sync) {
      const request = this.#ring[this.#head] as number
      if (request === RequestKind.Parse) parse = true
      if (request >= RequestKind.NamedParse) dropped++
      this.#pop()
    }
    // Backwards, as what was done is undone.
    for (const note of this.#notes.splice(0, dropped).toReversed()) note.dropped?.()
    this.#skipping = this.#count === 0
    return parse && !this.#owes(RequestKind.Parse)
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

  #owes(request: RequestKind): boolean {
    for (let index = 0; index < this.#count; index++) {
      if (this.#ring[(this.#head + index) & (this.#ring.length - 1)] === request) return true
    }
    return false
  }

  #pop(): void {
    this.#head = (this.#head + 1) & (this.#ring.length - 1)
    this.#count--
  }

  #append(request: RequestKind): void {
    this.#ring[(this.#head + this.#count) & (this.#ring.length - 1)] = request
    this.#count++
  }

  #drain(): RequestKind[] {
    const requests: RequestKind[] = []
    while (this.#count > 0) {
      requests.push(this.#ring[this.#head] as RequestKind)
      this.#pop()
    }
    return requests
  }

  #grow(): boolean {
    if (this.#ring.length >= outstandingMax) return false
    const requests = this.#drain()
    this.#ring = new Uint8Array(this.#ring.length * 2)
    this.#head = 0
    for (const request of requests) this.#append(request)
    return true
  }
}

/** What is answered with ReadyForQuery: it ends the implicit transaction of the extended requests before it. */
function endsGroup(request: RequestKind): boolean {
  return request === RequestKind.Sync || request === RequestKind.Query || request === RequestKind.FunctionCall
}
