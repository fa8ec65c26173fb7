import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { atEndOfFile } from './cleanup.ts'

const root = join(import.meta.dirname, '../..')
const main = join(root, 'cli/main.ts')
/** As the first line of `main` has it. */
const noDebugger = '--disable-sigusr1'

export interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs `flotilla ARGS` until it exits. */
export async function flotilla(
  args: readonly string[],
  how: {
    environment?: Readonly<Record<string, string>>
    input?: string
    cwd?: string
    /** Directory of the sources of another release. */
    release?: string
  } = {},
): Promise<Ran> {
  const program = how.release === undefined ? main : join(how.release, 'cli/main.ts')
  const child = spawn(process.execPath, [noDebugger, program, ...args], {
    cwd: how.cwd ?? root,
    env: { ...process.env, ...how.environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  child.stdin.on('error', () => undefined) // it did not read its input
  child.stdin.end(how.input ?? '')
  const ended = once(child, 'close') as Promise<[number | null]>
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  return { code, stdout, stderr }
}

/** A command that runs until it is stopped, such as `npm start`. */
export class Running {
  readonly child: ChildProcess
  readonly lines: string[] = []
  readonly #ended: Promise<number | NodeJS.Signals | null>
  #changed = Promise.withResolvers<void>()

  /** `words` is the whole command: ["npm", "start"], or `flotillaWords`. */
  constructor(words: readonly [string, ...string[]], environment: Readonly<Record<string, string>> = {}) {
    const [command, ...args] = words
    this.child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true, // a group of its own, as a terminal gives it
    })
    this.#ended = new Promise((resolve, reject) => {
      this.child.once('error', reject)
      this.child.once('close', (code, signal) => resolve(code ?? signal))
    })
    void this.#ended.finally(() => this.#changed.resolve())
    for (const output of [this.child.stdout, this.child.stderr]) {
      if (output === null) continue
      createInterface({ input: output }).on('line', (line) => {
        this.lines.push(line)
        this.#changed.resolve()
        this.#changed = Promise.withResolvers()
      })
    }
    atEndOfFile(async () => {
      this.child.kill('SIGTERM')
      await this.#ended
    })
  }

  /** Resolves when a line matches. @throws Error with all output if it exits before. */
  async says(pattern: RegExp): Promise<string> {
    let hasEnded = false
    void this.#ended.then(() => (hasEnded = true))
    for (;;) {
      const line = this.lines.find((one) => pattern.test(one))
      if (line !== undefined) return line
      if (hasEnded) throw new Error(`ended without saying ${pattern}:\n${this.lines.join('\n')}`)
      await this.#changed.promise
    }
  }

  /** Ctrl-C in a terminal: SIGINT to the process group. Returns the exit code. */
  async ctrlC(): Promise<number | NodeJS.Signals | null> {
    process.kill(-(this.child.pid as number), 'SIGINT')
    return this.#ended
  }

  /** Sends a signal to the process alone. Returns the exit code. */
  async end(signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
    this.child.kill(signal)
    return this.#ended
  }

  async kill9(): Promise<void> {
    await this.end('SIGKILL')
  }
}

/** The words of the command `flotilla ARGS`. */
export function flotillaWords(...args: string[]): [string, ...string[]] {
  return [process.execPath, noDebugger, main, ...args]
}
