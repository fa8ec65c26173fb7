import { closeSync, fsync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { keptDisconnectSchema } from '../../shared/disconnect.ts'
import type { Disconnect } from '../../shared/disconnect.ts'
import { privateFileMode, replaceFile } from './atomic-file.ts'
import { reasonOf, type Log } from './log.ts'

const syncToDisk = promisify(fsync)

export interface OutboxOptions {
  readonly path: string
  /** Maximum number of events; further ones replace the oldest. */
  readonly eventsMax: number
  readonly log: Log
  /** Told of every write: why it failed, or null. */
  readonly onWritten?: (fault: string | null) => void
}

export const outboxEventsMax = 10_000

/** An event survives a power loss within this time, and the death of the process at once. */
const syncDelayMs = 50

/**
 * Disconnect events that control has not acknowledged, oldest first, in a log of JSON lines. The file may contain more
 * than the list (acknowledged or dropped events, until it is rewritten), never less: an event may be reported twice,
 * and control recognizes it by its id.
 */
export class Outbox {
  readonly #options: OutboxOptions
  #events: Disconnect[]
  /** Number of lines in the file. */
  #lines: number
  #fd: number
  /** Events in the list that are not yet in the file. */
  #unwritten: Disconnect[] = []
  #syncTimer: NodeJS.Timeout | undefined
  #rewriting = false
  /** File operations run one at a time. */
  #work: Promise<void> = Promise.resolve()
  #droppedEvents = 0
  #failing = false
  #closed = false

  private constructor(options: OutboxOptions, events: Disconnect[]) {
    this.#options = options
    this.#events = events
    this.#lines = events.length
    this.#fd = openSync(options.path, 'a', privateFileMode)
  }

  /** Reads what an earlier run left. Damaged lines are skipped with one warning. */
  static async open(options: OutboxOptions): Promise<Outbox> {
    const text = await readOrEmpty(options)
    const lines = text.split('\n').filter((line) => line !== '')
    const events = lines.map(parseEvent).filter((event) => event !== undefined)
    const kept = events.slice(-options.eventsMax)
    const damaged = lines.length - events.length
    if (damaged > 0) {
      options.log('warn', 'damaged lines in the outbox, skipped', { path: options.path, damaged })
    }
    // Also prevents the next line from continuing a torn one.
    if (text !== '') await replaceFile(options.path, toLines(kept))
    const outbox = new Outbox(options, kept)
    outbox.#droppedEvents = events.length - kept.length
    return outbox
  }

  /** Number of waiting events. */
  get size(): number {
    return this.#events.length
  }

  /** Number of events dropped in this run. */
  get droppedEvents(): number {
    return this.#droppedEvents
  }

  append(event: Disconnect): void {
    this.#events.push(event)
    this.#unwritten.push(event)
    if (this.#events.length > this.#options.eventsMax) {
      this.#events.shift()
      this.#droppedEvents += 1
    }
    // A dead database produces many events at once: those of one turn of the loop are written together.
    if (this.#unwritten.length === 1) setImmediate(() => this.#write())
  }

  /** The oldest events, at most `count`. */
  oldest(count: number): readonly Disconnect[] {
    return this.#events.slice(0, count)
  }

  /** Control has acknowledged these. Their lines leave the file when no event waits. */
  remove(ids: ReadonlySet<string>): void {
    this.#events = this.#events.filter(({ id }) => !ids.has(id))
    if (this.#events.length > 0 || this.#lines === 0 || this.#rewriting) return
    this.#guard(() => ftruncateSync(this.#fd))
    this.#lines = 0
  }

  /** Drops an event that control rejects. */
  drop(id: string): void {
    this.#droppedEvents += 1
    this.remove(new Set([id]))
  }

  /** Resolves when everything is on disk. */
  async flush(): Promise<void> {
    while (this.#rewriting) await this.#work
    this.#write()
    await this.#enqueue(async () => await syncToDisk(this.#fd))
  }

  async close(): Promise<void> {
    while (this.#rewriting) await this.#work
    this.#write()
    this.#closed = true
    clearTimeout(this.#syncTimer)
    await this.#enqueue(async () => {
      await syncToDisk(this.#fd)
      closeSync(this.#fd)
    })
  }

  #write(): void {
    const events = this.#unwritten
    if (events.length === 0 || this.#closed || this.#rewriting) return
    this.#unwritten = []
    this.#guard(() => writeSync(this.#fd, toLines(events)))
    this.#lines += events.length
    this.#syncTimer ??= setTimeout(() => {
      this.#syncTimer = undefined
      void this.#enqueue(async () => await syncToDisk(this.#fd))
    }, syncDelayMs)
    if (this.#lines > 2 * this.#options.eventsMax) void this.#rewrite()
  }

  /** Rewrites the file with exactly the list. Later events are appended to the new file. */
  async #rewrite(): Promise<void> {
    this.#rewriting = true
    await this.#enqueue(async () => {
      const events = this.#events.slice()
      this.#unwritten = []
      try {
        await replaceFile(this.#options.path, toLines(events))
        closeSync(this.#fd)
        this.#fd = openSync(this.#options.path, 'a', privateFileMode)
        this.#lines = events.length
      } finally {
        this.#rewriting = false
        this.#write()
      }
    })
  }

  async #enqueue(task: () => Promise<void>): Promise<void> {
    this.#work = this.#work.then(task).then(
      () => this.#succeeded(),
      (error: unknown) => this.#failed(error),
    )
    await this.#work
  }

  #guard(task: () => void): void {
    try {
      task()
      this.#succeeded()
    } catch (error) {
      this.#failed(error)
    }
  }

  #succeeded(): void {
    this.#failing = false
    this.#options.onWritten?.(null)
  }

  /** A failing disk is logged once until it works again; events stay in memory. */
  #failed(error: unknown): void {
    if (!this.#failing) {
      this.#options.log('error', 'could not write the outbox; events are kept in memory only', {
        path: this.#options.path,
        reason: reasonOf(error),
      })
    }
    this.#failing = true
    this.#options.onWritten?.(reasonOf(error))
  }
}

/** Reads the file of another process; an incomplete line is read the next time. */
export async function readEvents(path: string): Promise<Disconnect[]> {
  const lines = (await readFile(path, 'utf8')).split('\n')
  return lines.map(parseEvent).filter((event) => event !== undefined)
}

function toLines(events: readonly Disconnect[]): string {
  return events.map((event) => `${JSON.stringify(event)}\n`).join('')
}

function parseEvent(line: string): Disconnect | undefined {
  try {
    const parsed = keptDisconnectSchema.safeParse(JSON.parse(line))
    return parsed.success ? parsed.data : undefined
  } catch {
    return undefined
  }
}

async function readOrEmpty({ path, log }: OutboxOptions): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
      log('warn', 'could not read the outbox; continuing without it', { path, reason: reasonOf(error) })
    }
    return ''
  }
}
