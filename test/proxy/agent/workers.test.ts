import { expect, test } from 'vitest'
import { Crew } from '../../../proxy/agent/workers.ts'
import type { OperatedState } from '../../../proxy/port.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { enginePort, ScriptedEngine, scriptedEntry } from './scripted-engine.ts'
import { unheard } from './unheard.ts'
import { until } from './until.ts'

const nothingDone: OperatedState = { pausedAll: false, paused: [], disabled: [], suspended: false, overrides: [] }
const paused: OperatedState = { ...nothingDone, paused: ['app'] }

async function startCrew(workers: number) {
  const port = enginePort()
  const scripts = Array.from({ length: workers }, (_, worker) => new ScriptedEngine(port, worker))
  const log: string[] = []
  const crew = new Crew({
    entry: scriptedEntry,
    answerMs: 5000,
    log: (_level, message) => log.push(message),
    mockKey: () => new Uint8Array(32),
    ioUring: true,
    chance: { now: () => new Date(), random: () => 0.5 },
    ...unheard,
  })
  atEndOfFile(async () => await crew.stop('now', 0))
  await crew.start({ host: '127.0.0.1', port }, workers)
  return { scripts, log }
}

/** It dies and is there again, with what had been done until then. */
async function die(script: ScriptedEngine, log: readonly string[]): Promise<void> {
  const before = log.length
  script.order({ do: 'throw', message: 'a bug of the engine' })
  await until('the worker is back', () => log.slice(before).includes('the engine runs again'))
}

test('a worker that comes back while an order is under way has it too', async () => {
  const { scripts, log } = await startCrew(2)
  const [asking, dying] = scripts as [ScriptedEngine, ScriptedEngine]
  asking.order({ do: 'say', message: { type: 'state', state: nothingDone } })
  asking.order({
    do: 'say',
    message: { type: 'ask', id: 0, question: { ask: 'do', deed: 'pause', database: 'app' } },
  })
  const [first] = await Promise.all([asking.gets('ask'), dying.gets('ask')])

  await die(dying, log)
  asking.order({ do: 'say', message: { type: 'state', state: paused } })
  asking.order({ do: 'say', message: { type: 'answer', id: first.id, answer: true } })

  const restored = await dying.gets('restore', ({ state }) => state.paused.includes('app'))
  expect(restored.state).toEqual(paused)
})
