import { expect, test } from 'vitest'
import { Workers } from '../../../proxy/agent/workers.ts'
import type { OperatedState } from '../../../proxy/operation.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { enginePort, ScriptedEngine, scriptedEntry } from './scripted-engine.ts'
import { unheard } from './unheard.ts'
import { until } from './until.ts'

const nothingDone: OperatedState = { pausedAll: false, paused: [], disabled: [], suspended: false, overrides: [] }
const paused: OperatedState = { ...nothingDone, paused: ['app'] }

interface Started {
  readonly before?: (workers: Workers) => Promise<void>
  readonly onLog?: (message: string) => void
}

async function startWorkers(count: number, { before, onLog }: Started = {}) {
  const port = enginePort()
  const scripts = Array.from({ length: count }, (_, worker) => new ScriptedEngine(port, worker))
  const log: string[] = []
  const workers = new Workers({
    entry: scriptedEntry,
    answerMs: 5000,
    log: (_level, message) => {
      log.push(message)
      onLog?.(message)
    },
    mockKey: () => new Uint8Array(32),
    ioUring: true,
    chance: { now: () => new Date(), random: () => 0.5 },
    ...unheard,
  })
  atEndOfFile(async () => await workers.stop('now', 0))
  await before?.(workers)
  await workers.start({ host: '127.0.0.1', port }, count)
  return { scripts, log, workers }
}

/** It dies and is there again, with what had been done until then. */
async function die(script: ScriptedEngine, log: readonly string[]): Promise<void> {
  const before = log.length
  script.instruct({ do: 'throw', message: 'a bug of the engine' })
  await until('the worker is back', () => log.slice(before).includes('the engine restarted'))
}

test('a worker that comes back while an operation is under way gets it too', async () => {
  const { scripts, log } = await startWorkers(2)
  const [asking, dying] = scripts as [ScriptedEngine, ScriptedEngine]
  asking.instruct({ do: 'say', message: { type: 'state', state: nothingDone } })
  asking.instruct({
    do: 'say',
    message: { type: 'query', id: 0, query: { kind: 'operate', operation: 'pause', database: 'app' } },
  })
  const [first] = await Promise.all([asking.gets('query'), dying.gets('query')])

  await die(dying, log)
  asking.instruct({ do: 'say', message: { type: 'state', state: paused } })
  asking.instruct({ do: 'say', message: { type: 'answer', id: first.id, answer: true } })

  const restored = await dying.gets('restore', ({ state }) => state.paused.includes('app'))
  expect(restored.state).toEqual(paused)
})

test('an order that comes while no thread runs is part of the state of the next one', async () => {
  let carriedOut: Promise<void> | undefined
  const { scripts, log, workers } = await startWorkers(1, {
    onLog: (message) => {
      if (message !== 'the engine died, restarting it') return
      const [one, other] = [
        { pool: 'app', effect: 'paused', on: true },
        { pool: 'reports', effect: 'disabled', on: true },
      ] as const
      carriedOut = workers.carryOut([one, other])
    },
  })
  const [script] = scripts as [ScriptedEngine]

  await die(script, log)
  await carriedOut

  const restored = await script.gets('restore', ({ state }) => state.paused.length > 0)
  expect(restored.state).toEqual({ ...paused, disabled: ['reports'] })
  expect(script.got('carry_out')).toEqual([])
})

test('orders of before the first start are part of the state with which every worker starts', async () => {
  const { scripts, workers } = await startWorkers(2, {
    before: async (created) => await created.carryOut([{ pool: 'app', effect: 'paused', on: true }]),
  })

  const restored = await Promise.all(scripts.map(async (script) => await script.gets('restore')))
  await workers.carryOut([{ pool: 'app', effect: 'paused', on: false }])
  const carriedOut = await Promise.all(scripts.map(async (script) => await script.gets('carry_out')))

  expect(restored.map(({ state }) => state)).toEqual([paused, paused])
  expect(carriedOut.map(({ changes }) => changes)).toEqual(
    scripts.map(() => [{ pool: 'app', effect: 'paused', on: false }]),
  )
})
