/**
 * The process of one engine under test: its thread, driven over IPC as the agent drives it. In a process of its own,
 * so that its memory can be measured and its death does not take the test along. Ends when the engine does.
 */
import { EngineThread } from '../../proxy/agent/engine-thread.ts'
import { openWakeFd } from '../../proxy/agent/libc.ts'
import type { UnixListen } from '../../proxy/engine/messages.ts'
import type { FromProcess, ToProcess } from './engine-messages.ts'

/** Longer than any pause of a busy machine. */
const answerMs = 20_000

const say = (message: FromProcess): void => {
  if (process.connected) process.send?.(message)
}

const engine = new EngineThread({
  entry: new URL('../../proxy/engine/main.ts', import.meta.url),
  listen: { host: '127.0.0.1', port: 0, ...(JSON.parse(process.argv[2] ?? '{}') as { unix?: UnixListen }) },
  wakeFd: openWakeFd(),
  answerMs,
  log: (level, message, fields = {}) => say({ say: 'log', line: { level, message, fields } }),
  onLost: (server) => say({ say: 'lost', server }),
  onShutdown: (mode) => engine.post({ type: 'stop', mode, timeoutMs: 600_000 }),
  onPeers: () => engine.post({ type: 'peers', update: null }),
  onReload: (id) => engine.post({ type: 'reloaded', id, error: null }),
})

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
    default:
      message satisfies never
  }
})
process.on('disconnect', () => engine.terminate('its test has ended'))

function answer(id: number, asked: ReturnType<typeof engine.apply> | ReturnType<typeof engine.snapshot>): void {
  asked.then(
    (value) => say({ say: 'answer', id, value }),
    (error: unknown) => say({ say: 'refusal', id, reason: String(error) }),
  )
}

say({ say: 'listening', port: (await engine.listening).port })
const { reason } = await engine.ended
say({ say: 'ended', reason })
if (process.connected) process.disconnect()
