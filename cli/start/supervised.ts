/** Supervises a child of `npm start`: restarts it when it exits unexpectedly. */
import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure } from '../failure.ts'

/** Delay before a restart. */
const restartMs = 1_000
/** Between attempts to start an optional child. */
const retryMs = 2_000
/** A child that exits within this time after its start is given up after `tooSoonMax` times in a row. */
const tooSoonMs = 5_000
const tooSoonMax = 3

export interface Supervised {
  readonly name: string
  /** Starts it and resolves when it is ready. @throws Failure in one line if it does not become ready. */
  readonly start: () => Promise<ChildProcess>
  readonly stopSignal: NodeJS.Signals
  /**
   * Children of a higher level depend on those below: levels are stopped from the highest, the children of one
   * together.
   */
  readonly level: number
  /** The others go on without it: while it cannot be started, that is said, and it is tried again. */
  readonly isOptional?: true
}

interface Entry {
  readonly one: Supervised
  /** Null while it cannot be started. */
  child: ChildProcess | null
  /** Resolves when it has exited for good. */
  over: Promise<void>
}

export class Supervisor {
  readonly #say: (line: string) => void
  readonly #entries: Entry[] = []
  readonly #givenUp = Promise.withResolvers<never>()
  #stopping = false
  readonly #stopped = Promise.withResolvers<null>()

  constructor(say: (line: string) => void) {
    this.#say = say
    this.#givenUp.promise.catch(() => undefined) // handled where it is awaited
  }

  /** Rejects with a Failure if a child cannot be kept running. */
  get givenUp(): Promise<never> {
    return this.#givenUp.promise
  }

  async add(one: Supervised): Promise<void> {
    const entry: Entry = { one, child: await this.#started(one), over: Promise.resolve() }
    this.#entries.push(entry)
    entry.over = this.#watch(entry)
  }

  /** Stops all children, level by level, and waits for their exit; with SIGKILL once `now` aborts. */
  async stop(now: AbortSignal): Promise<void> {
    this.#stopping = true
    this.#stopped.resolve(null)
    const levels = new Set(this.#entries.map(({ one }) => one.level))
    for (const level of Array.from(levels).toSorted((a, b) => b - a)) {
      await Promise.all(this.#entries.filter(({ one }) => one.level === level).map((entry) => stopOne(entry, now)))
    }
  }

  async #watch(entry: Entry): Promise<void> {
    const { name } = entry.one
    for (let tooSoon = 0; ;) {
      const { child } = entry
      if (child === null) {
        await Promise.race([sleep(retryMs), this.#stopped.promise])
        if (this.#stopping) return
        await this.#restart(entry)
        continue
      }
      const startedAt = Date.now()
      await endOf(child)
      if (this.#stopping) return
      const how = child.signalCode ?? `exit code ${child.exitCode}`
      tooSoon = Date.now() - startedAt < tooSoonMs ? tooSoon + 1 : 0
      if (tooSoon >= tooSoonMax && entry.one.isOptional !== true) {
        this.#givenUp.reject(new Failure(`${name} exited ${tooSoon} times in a row, last with ${how}`))
        return
      }
      this.#say(`${name} exited (${how}), restarting`)
      await sleep(restartMs)
      if (this.#stopping) return
      try {
        await this.#restart(entry)
      } catch (error) {
        this.#givenUp.reject(error)
        return
      }
    }
  }

  async #restart(entry: Entry): Promise<void> {
    const { name, stopSignal } = entry.one
    // A child that is still starting when this process ends, ends with it.
    const child = await Promise.race([this.#started(entry.one), this.#stopped.promise])
    entry.child = child
    if (this.#stopping) child?.kill(stopSignal)
    else if (child !== null) this.#say(`${name} restarted`)
  }

  /** Null for an optional one that does not start. */
  async #started(one: Supervised): Promise<ChildProcess | null> {
    try {
      return await one.start()
    } catch (error) {
      if (one.isOptional !== true || !(error instanceof Failure)) throw error
      this.#say(`${error.message}; the others go on, and it is tried again`)
      return null
    }
  }
}

async function stopOne(entry: Entry, now: AbortSignal): Promise<void> {
  const kill = () => entry.child?.kill('SIGKILL')
  now.addEventListener('abort', kill)
  entry.child?.kill(now.aborted ? 'SIGKILL' : entry.one.stopSignal)
  await entry.over
  now.removeEventListener('abort', kill)
}

/** Resolves when the child has exited, also if it had before. */
export async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  await new Promise((resolve) => child.once('exit', resolve))
}

/**
 * Starts `flotilla ARGS` as a child and resolves when `url` responds with 200.
 * @throws Failure with the child's last error if it exits before, or is not ready in time.
 */
export async function startFlotilla(how: {
  name: string
  args: readonly string[]
  environment: Readonly<Record<string, string | undefined>>
  readyUrl: string
  readyWithinMs: number
  onLine: (line: string) => void
  /** Module of the command; that of this release unless given. */
  program?: string
}): Promise<ChildProcess> {
  const { program = new URL('../main.ts', import.meta.url).pathname } = how
  const child = spawn(process.execPath, ['--disable-sigusr1', program, ...how.args], {
    env: how.environment,
    // By the channel a child learns that this process was killed; its own group keeps the terminal's Ctrl-C from it.
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached: true,
  })
  /** The last error it logged, or the last thing it said. */
  let last = ''
  for (const output of [child.stdout, child.stderr]) {
    if (output === null) continue
    createInterface({ input: output }).on('line', (line) => {
      if (!isError(last) || isError(line)) last = line
      how.onLine(line)
    })
  }
  const closed = new Promise<string>((resolve) => {
    child.once('close', () => resolve(last))
    child.once('error', (error) => resolve(error.message))
  })
  const deadline = Date.now() + how.readyWithinMs
  while (!(await answers(how.readyUrl))) {
    const words = await Promise.race([closed, sleep(25)])
    if (words !== undefined) throw new Failure(`could not start ${how.name}: ${lineForPeople(words)}`)
    if (Date.now() > deadline) {
      child.kill('SIGKILL')
      await closed
      throw new Failure(`${how.name} is not ready after ${how.readyWithinMs / 1000} s: ${lineForPeople(last)}`)
    }
  }
  return child
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1_000) })
    await response.arrayBuffer()
    return response.ok
  } catch {
    return false
  }
}

function isError(line: string): boolean {
  return line.includes('"level":"error"')
}

/** The message and reason of a log line in JSON. */
function lineForPeople(line: string): string {
  try {
    const { message, reason } = JSON.parse(line) as { message?: unknown; reason?: unknown }
    const parts = [message, reason].filter((part) => typeof part === 'string')
    return parts.length === 0 ? line : parts.join(': ')
  } catch {
    return line || 'no output'
  }
}
