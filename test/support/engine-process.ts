/**
 * The process of one engine under test: its thread, driven over IPC as the agent drives it. It is a process of its own,
 * so that its memory can be measured and its death does not end the test. Exits with the engine.
 */
import { Workers } from '../../proxy/agent/workers.ts'
import { EngineThread } from '../../proxy/agent/engine-thread.ts'
import { openWakeFd } from '../../proxy/agent/libc.ts'
import type { UnixListen } from '../../proxy/port.ts'
import type { StopMode, ToEngine } from '../../proxy/port.ts'
import type { EngineSnapshot } from '../../proxy/snapshot.ts'
import type { ApplyOutcome, FleetSpec } from '../../proxy/spec.ts'
import { KeyCounts } from '../../proxy/memory/key-counts.ts'
import { SchemaChanges } from '../../proxy/memory/schema-changes.ts'
import { fault } from './fault.ts'
import type { FromProcess, ToProcess } from './engine-messages.ts'

/** Longer than any pause of a busy machine. */
const answerMs = 20_000

export interface EngineProcessOptions {
  readonly unix?: UnixListen
  readonly workers?: number
  /** Base64. */
  readonly mockKey: string
}

/** What the test drives: one engine, or workers as the agent runs them. */
interface Driven {
  readonly listening: Promise<{ readonly port: number }>
  readonly ended: Promise<{ readonly reason: string }>
  apply(spec: FleetSpec, force: boolean): Promise<ApplyOutcome>
  snapshot(): Promise<EngineSnapshot>
  post(message: ToEngine): void
  failWorker(worker: number): void
  terminate(): void
}

const say = (message: FromProcess): void => {
  if (process.connected) process.send?.(message)
}

const common = {
  entry: new URL('../../proxy/engine/main.ts', import.meta.url),
  answerMs,
  log: (level, message, fields = {}) => say({ say: 'log', line: { level, message, fields } }),
  onDisconnect: (disconnect) => say({ say: 'disconnect', disconnect }),
} satisfies Partial<ConstructorParameters<typeof EngineThread>[0]>

const { workers: count, mockKey: key, ...unix } = JSON.parse(process.argv[2] ?? '{}') as EngineProcessOptions
const mockKey = Buffer.from(key, 'base64')
const listen = { host: '127.0.0.1', port: 0, ...unix }

function alone(): Driven {
  const engine = new EngineThread({
    ...common,
    listen,
    process: { mockKey, failedLogins: KeyCounts.memory(), schemaChanges: SchemaChanges.memory(), ioUring: true },
    wakeFd: openWakeFd(),
    onShutdown: (mode) => engine.post({ type: 'stop', mode, timeoutMs: 600_000 }),
    onPeers: () => engine.post({ type: 'peers', update: null }),
    onReload: (id) => engine.post({ type: 'reloaded', id, error: null }),
  })
  return {
    listening: engine.listening,
    ended: engine.ended,
    apply: async (spec, force) => await engine.apply(spec, force),
    snapshot: async () => await engine.snapshot(),
    post: (message) => engine.post(message),
    failWorker: () => undefined,
    terminate: () => engine.terminate('its test has ended'),
  }
}

function several(count: number): Driven {
  const ended = Promise.withResolvers<{ readonly reason: string }>()
  const end = async (mode: StopMode, timeoutMs: number): Promise<void> => {
    await workers.stop(mode, timeoutMs)
    ended.resolve({ reason: 'it was stopped' })
  }
  const workers = new Workers({
    ...common,
    entry: new URL('engine-with-fault.ts', import.meta.url),
    chance: { now: () => new Date(), random: Math.random },
    ioUring: true,
    onShutdown: (mode) => void end(mode, 600_000),
    onPeers: () => workers.peers(null),
    onReload: (id) => workers.reloaded(id, null),
    onListening: () => undefined,
    onRestart: () => undefined,
    mockKey: () => mockKey,
  })
  return {
    listening: workers.start(listen, count),
    ended: ended.promise,
    apply: async (spec, force) => await workers.apply(spec, force),
    snapshot: async () => await workers.snapshot(),
    post(message) {
      if (message.type === 'stop') void end(message.mode, message.timeoutMs)
      else if (message.type === 'peers') workers.peers(message.update)
      else throw new Error(`workers do not take ${message.type}`)
    },
    // The answer to a RELOAD goes to the worker given by the remainder of the id.
    failWorker: (worker) => workers.reloaded(worker, fault),
    terminate: () => void end('now', 0),
  }
}

const engine = count === undefined ? alone() : several(count)

process.on('message', (message: ToProcess) => {
  switch (message.ask) {
    case 'apply':
      answer(message.id, engine.apply(message.spec, message.force))
      return
    case 'snapshot':
      answer(message.id, engine.snapshot())
      return
    case 'post':
      engine.post(message.message)
      return
    case 'fail worker':
      engine.failWorker(message.worker)
      return
    default:
      message satisfies never
  }
})
process.on('disconnect', () => engine.terminate())

function answer(id: number, asked: Promise<ApplyOutcome> | Promise<EngineSnapshot>): void {
  asked.then(
    (value) => say({ say: 'answer', id, value }),
    (error: unknown) => say({ say: 'refusal', id, reason: String(error) }),
  )
}

say({ say: 'listening', port: (await engine.listening).port })
const { reason } = await engine.ended
say({ say: 'ended', reason })
if (process.connected) process.disconnect()
