/**
 * Events of a process that drains after an online restart, when the state directory and control belong to its
 * successor. It writes them to a directory of its own inside the state directory, and the process that holds the state
 * directory moves them to its outbox: from a running process as they come, from one that has exited, for any reason,
 * the rest.
 *
 *   drains/<boot>/lock        held by the draining process
 *   drains/<boot>/outbox.log  its events
 */
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Disconnect } from '../../../shared/disconnect.ts'
import { reasonOf, type Log } from '../log.ts'
import { Outbox, outboxEventsMax, readEvents } from '../outbox.ts'
import { StateFolder } from '../state.ts'

const bootName = /^[0-9a-f]{1,64}$/

function drainsIn(stateFolder: string): string {
  return join(stateFolder, 'drains')
}

/** The outbox of a process that has given up its state directory. */
export class DrainOutbox {
  readonly #folder: StateFolder
  readonly #outbox: Outbox

  private constructor(folder: StateFolder, outbox: Outbox) {
    this.#folder = folder
    this.#outbox = outbox
  }

  /** Open this while the state directory still belongs to this process. Throws if that fails. */
  static async open(stateFolder: string, boot: string, log: Log): Promise<DrainOutbox> {
    const folder = await StateFolder.open(join(drainsIn(stateFolder), boot), log)
    return new DrainOutbox(folder, await Outbox.open({ path: folder.outboxPath, eventsMax: outboxEventsMax, log }))
  }

  append(event: Disconnect): void {
    this.#outbox.append(event)
  }

  /** Its content is for the holder of the state directory. */
  async close(): Promise<void> {
    await this.#outbox.close()
    await this.#folder.close()
  }
}

export interface DrainReaderOptions {
  readonly stateFolder: string
  readonly outbox: Outbox
  readonly everyMs: number
  readonly log: Log
  /** Events were added to the outbox. */
  readonly onEvents: () => void
}

/** How far the events of one process were moved. */
interface Progress {
  /** Size and time of the file when it was read. */
  seen: string
  readonly ids: Set<string>
}

/** Moves events of draining processes to the outbox. An event may be moved twice; control recognizes it by its id. */
export class DrainReader {
  readonly #options: DrainReaderOptions
  readonly #progress = new Map<string, Progress>()
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> = Promise.resolve()
  #stopped = false

  constructor(options: DrainReaderOptions) {
    this.#options = options
  }

  start(): void {
    this.#looking = this.#look().finally(() => {
      if (this.#stopped) return
      this.#timer = setTimeout(() => this.start(), this.#options.everyMs)
      this.#timer.unref()
    })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    clearTimeout(this.#timer)
    await this.#looking
  }

  async #look(): Promise<void> {
    const { stateFolder, log } = this.#options
    try {
      const boots = await readdir(drainsIn(stateFolder))
      for (const boot of boots) if (!this.#stopped && bootName.test(boot)) await this.#take(boot)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      log('warn', 'could not read the events of a former process', { reason: reasonOf(error) })
    }
  }

  async #take(boot: string): Promise<void> {
    const { stateFolder, outbox, log } = this.#options
    const path = join(drainsIn(stateFolder), boot)
    // Before the last read, so that nothing is written after it.
    const ended = await StateFolder.open(path, log).catch(() => null)
    try {
      await this.#read(boot, join(path, 'outbox.log'))
      if (ended === null) return
      await outbox.flush()
      await rm(path, { recursive: true })
      this.#progress.delete(boot)
    } finally {
      await ended?.close()
    }
  }

  async #read(boot: string, path: string): Promise<void> {
    const { outbox, onEvents } = this.#options
    const file = await stat(path).catch(() => null)
    if (file === null) return
    const progress = this.#progress.get(boot) ?? { seen: '', ids: new Set<string>() }
    this.#progress.set(boot, progress)
    const seen = `${file.size} ${file.mtimeMs}`
    if (progress.seen === seen) return
    const events = (await readEvents(path)).filter(({ id }) => !progress.ids.has(id))
    progress.seen = seen
    for (const event of events) {
      progress.ids.add(event.id)
      outbox.append(event)
    }
    if (events.length > 0) onEvents()
  }
}
