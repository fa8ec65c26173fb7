/** The engine as in production, in a process of its own and without an agent, configured and queried by a test. */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as after } from 'node:timers/promises'
import { Passwords } from '../../proxy/agent/password.ts'
import { prepare } from '../../proxy/agent/prepare.ts'
import type { ToEngine, UnixListen } from '../../proxy/port.ts'
import type { EngineSnapshot, PoolSnapshot } from '../../proxy/snapshot.ts'
import type { ApplyOutcome } from '../../proxy/spec.ts'
import { noSecrets, readDocument } from '../../shared/config/document.ts'
import { effectiveGeneral, effectivePools } from '../../shared/config/effective.ts'
import type { EngineDisconnect } from '../../shared/disconnect.ts'
import { poolHashes } from '../../shared/hash.ts'
import { atEndOfFile } from './cleanup.ts'
import type { FromProcess, LogLine, ToProcess } from './engine-messages.ts'

/** A configuration document as JSON, with literal passwords and addresses as hosts. */
export type Document = Readonly<Record<string, unknown>>

/** Shared by all engines of a test, as in a fleet. */
const mockKey = randomBytes(32)

const entry = join(import.meta.dirname, 'engine-process.ts')

/** Maximum wait of `until`, after which the test fails. */
const untilMsMax = 15_000
const lookEveryMs = 10

/**
 * Starts an engine that runs `document`; it stops at the end of the test file at the latest. With `workers` it runs as
 * under the agent: a dead thread is restarted.
 */
export async function startEngine(
  document: Document,
  options: { unix?: UnixListen; workers?: number } = {},
): Promise<Engine> {
  const child = fork(entry, [JSON.stringify({ ...options, mockKey: mockKey.toString('base64') })], {
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  const engine = new Engine(child)
  atEndOfFile(() => engine.kill())
  await engine.listening
  await engine.apply(document)
  return engine
}

export class Engine {
  readonly host = '127.0.0.1'
  port = 0
  /** Unplanned ends of server connections, oldest first. */
  readonly lost: EngineDisconnect[] = []
  readonly log: LogLine[] = []
  /** Why the thread ended; null while it runs. */
  ended: string | null = null
  readonly listening: Promise<void>
  readonly #child: ChildProcess
  readonly #gone: Promise<unknown>
  readonly #passwords = new Passwords(() => mockKey)
  readonly #pending = new Map<number, PromiseWithResolvers<ApplyOutcome | EngineSnapshot>>()
  #lastId = 0
  #version = 0

  constructor(child: ChildProcess) {
    this.#child = child
    this.#gone = once(child, 'exit')
    const listening = Promise.withResolvers<void>()
    this.listening = listening.promise
    child.on('message', (message: FromProcess) => this.#receive(message, listening))
    child.on('exit', (code) => {
      this.ended ??= `its process exited with code ${code}`
      const reason = new Error(this.ended)
      listening.reject(reason)
      for (const { reject } of this.#pending.values()) reject(reason)
      this.#pending.clear()
    })
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Creates and applies the next version of `document`. @throws ConfigError, or Error if the engine has died. */
  async apply(tree: Document): Promise<ApplyOutcome> {
    const document = readDocument(tree, noSecrets)
    const { settings, console_users } = effectiveGeneral(document)
    const pools = effectivePools(document).map((body) => {
      const { hash, connect_hash } = poolHashes(body)
      return { hash, connectHash: connect_hash, body }
    })
    this.#version++
    const { spec } = await prepare(
      { position: { epoch: 1, version: this.#version }, general: settings, consoleUsers: console_users, pools },
      {
        resolver: { resolveAll: (hosts) => Promise.resolve(new Map(hosts.map((host) => [host, [host]]))) },
        secrets: { value: (ref) => Promise.resolve('literal' in ref ? ref.literal : '') },
        passwords: this.#passwords,
      },
    )
    return (await this.#ask((id) => ({ ask: 'apply', id, spec, force: false }))) as ApplyOutcome
  }

  async snapshot(): Promise<EngineSnapshot> {
    return (await this.#ask((id) => ({ ask: 'snapshot', id }))) as EngineSnapshot
  }

  /** Resolves when `condition` holds. @throws Error with the last snapshot if it does not. */
  async until(condition: (snapshot: EngineSnapshot) => boolean): Promise<void> {
    let last: EngineSnapshot | undefined
    await until(
      async () => condition((last = await this.snapshot())),
      () => JSON.stringify(last),
    )
  }

  /** @throws Error if there is no such pool. */
  async pool(pool: string, user = 'app'): Promise<PoolSnapshot> {
    const { pools } = await this.snapshot()
    const found = pools.find((one) => one.pool === pool && one.user === user)
    if (found === undefined) throw new Error(`no pool ${pool} of ${user}`)
    return found
  }

  /** The first snapshot of a pool for which `condition` holds. @throws Error with the last one if there is none. */
  async poolUntil(pool: string, condition: (pool: PoolSnapshot) => boolean): Promise<PoolSnapshot> {
    let last: PoolSnapshot | undefined
    await until(
      async () => condition((last = await this.pool(pool))),
      () => `pool ${pool}: ${JSON.stringify(last)}`,
    )
    return last as PoolSnapshot
  }

  /** The first lost server for which `condition` holds, including earlier ones. */
  async lostUntil(condition: (server: EngineDisconnect) => boolean): Promise<EngineDisconnect> {
    await until(
      () => this.lost.some(condition),
      () => `lost: ${JSON.stringify(this.lost)}`,
    )
    return this.lost.find(condition) as EngineDisconnect
  }

  /** Resolves when the engine has handled the message. */
  async post(message: ToEngine): Promise<void> {
    this.#send({ ask: 'post', message })
    await this.snapshot()
  }

  /** Resident memory of the process, about 60 MB of which are Node's. */
  rssBytes(): number {
    const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1]
    return Number(kilobytes) * 1024
  }

  /** Makes a worker's thread fail, as if by a bug. */
  failWorker(worker: number): void {
    this.#send({ ask: 'fail worker', worker })
  }

  /** Resolves when the process has exited. */
  async stop(mode: 'drain' | 'now', timeoutMs: number): Promise<void> {
    this.#send({ ask: 'post', message: { type: 'stop', mode, timeoutMs } })
    await this.#gone
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    // In order, so that coverage is written; by force if that does not work.
    if (this.#child.connected) this.#child.disconnect()
    const forced = setTimeout(() => this.#child.kill('SIGKILL'), 2000)
    await this.#gone
    clearTimeout(forced)
  }

  async #ask(message: (id: number) => ToProcess): Promise<ApplyOutcome | EngineSnapshot> {
    if (this.ended !== null) throw new Error(this.ended)
    const id = ++this.#lastId
    const pending = Promise.withResolvers<ApplyOutcome | EngineSnapshot>()
    this.#pending.set(id, pending)
    this.#send(message(id))
    return await pending.promise
  }

  #send(message: ToProcess): void {
    if (this.#child.connected) this.#child.send(message)
  }

  #receive(message: FromProcess, listening: PromiseWithResolvers<void>): void {
    switch (message.say) {
      case 'listening':
        this.port = message.port
        listening.resolve()
        return
      case 'answer':
        this.#pending.get(message.id)?.resolve(message.value)
        this.#pending.delete(message.id)
        return
      case 'refusal':
        this.#pending.get(message.id)?.reject(new Error(message.reason))
        this.#pending.delete(message.id)
        return
      case 'disconnect':
        this.lost.push(message.disconnect)
        return
      case 'log':
        this.log.push(message.line)
        return
      case 'ended':
        this.ended = message.reason
        return
      default:
        message satisfies never
    }
  }
}

/** Polls for a state that no event reports. @throws Error with `last()` if it does not occur. */
export async function until(
  condition: () => Promise<boolean> | boolean,
  last: () => string = () => condition.toString(),
  msMax = untilMsMax,
): Promise<void> {
  const deadlineMs = performance.now() + msMax
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${msMax} ms: ${last()}`)
    await after(lookEveryMs)
  }
}
