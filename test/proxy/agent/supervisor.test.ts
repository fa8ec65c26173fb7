import { readlinkSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Supervisor } from '../../../proxy/agent/supervisor.ts'
import { EngineDied } from '../../../proxy/agent/engine-thread.ts'
import { KeyCounts } from '../../../proxy/memory/key-counts.ts'
import { SchemaChanges } from '../../../proxy/memory/schema-changes.ts'
import { generalSettings } from '../../../shared/config/settings.ts'
import type { FleetSpec } from '../../../proxy/spec.ts'
import type { EngineDisconnect } from '../../../shared/disconnect.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { enginePort, ScriptedEngine, scriptedEntry } from './scripted-engine.ts'
import { unheard } from './unheard.ts'
import { until } from './until.ts'

function specOf(version: number): FleetSpec {
  return {
    position: { epoch: 1, version },
    general: generalSettings({}),
    generalValues: {},
    consoleUsers: [],
    pools: [],
  }
}

function newSupervisor(answerMs = 5000) {
  const port = enginePort()
  const script = new ScriptedEngine(port)
  const lost: EngineDisconnect[] = []
  const pauses = { count: 0 }
  const supervisor = new Supervisor({
    entry: scriptedEntry,
    answerMs,
    log: () => undefined,
    process: {
      mockKey: new Uint8Array(32),
      failedLogins: KeyCounts.memory(),
      schemaChanges: SchemaChanges.memory(),
      ioUring: true,
    },
    chance: {
      now: () => new Date(),
      // Asked for each pause before a start.
      random: () => {
        pauses.count += 1
        return 0.5
      },
    },
    ...unheard,
    onDisconnect: (disconnect) => lost.push(disconnect),
  })
  atEndOfFile(async () => await supervisor.stop('now', 0))
  return { port, script, supervisor, lost, pauses }
}

/** A number may have been taken by another file since; then it is not the one that was left open. */
function isNullDevice(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === '/dev/null'
  } catch {
    return false
  }
}

test('a version given to the engine is answered with its outcome', async () => {
  const { supervisor, port } = newSupervisor()
  await supervisor.start({ host: '127.0.0.1', port })

  const outcome = await supervisor.apply(specOf(1), false)

  expect(outcome).toMatchObject({ applied: true, running: { epoch: 1, version: 1 } })
  expect(supervisor.running?.position.version).toBe(1)
})

test('an engine that throws is running its last version again without a pause, and the reason is recorded', async () => {
  const { supervisor, script, port, pauses } = newSupervisor()
  await supervisor.start({ host: '127.0.0.1', port })
  await supervisor.apply(specOf(3), false)

  script.instruct({ do: 'throw', message: 'a bug of the engine' })
  await until('the engine is back', () => supervisor.restarts.length === 1 && supervisor.isServing)

  expect(pauses.count).toBe(0)
  expect(supervisor.restarts[0]?.reason).toBe('a bug of the engine')
  expect((await supervisor.snapshot()).running).toEqual({ epoch: 1, version: 3 })
  expect(script.got('apply').at(-1)).toMatchObject({ force: true, spec: { position: { version: 3 } } })
})

test('a version that kills the engine is refused, and the one before runs again', async () => {
  const { supervisor, script, port } = newSupervisor()
  await supervisor.start({ host: '127.0.0.1', port })
  await supervisor.apply(specOf(1), false)
  await script.obeys({ do: 'throw at the next apply' })

  await expect(supervisor.apply(specOf(2), false)).rejects.toThrow(EngineDied)
  await until('the engine is back', () => supervisor.isServing)

  expect((await supervisor.snapshot()).running).toEqual({ epoch: 1, version: 1 })
})

test('file descriptors a dead engine left open are closed', async () => {
  const { supervisor, script, port } = newSupervisor()
  await supervisor.start({ host: '127.0.0.1', port })
  script.instruct({ do: 'leave open', count: 20 })
  const told = await until('the descriptors are open', () => script.told.find((one) => 'opened' in one))
  const opened = 'opened' in told ? told.opened : []
  const openBefore = opened.filter(isNullDevice).length

  script.instruct({ do: 'throw', message: 'a bug' })
  await until('the engine is back', () => supervisor.restarts.length === 1 && supervisor.isServing)

  expect(openBefore).toBe(20)
  expect(opened.filter(isNullDevice)).toEqual([])
})

test('an engine that hangs is ended and started again', async () => {
  const { supervisor, script, port } = newSupervisor(1000)
  await supervisor.start({ host: '127.0.0.1', port })
  script.instruct({ do: 'hang' })
  await until('it hangs', () => script.told.find((one) => 'hangs' in one))

  await expect(supervisor.snapshot()).rejects.toThrow('it did not answer for 1000 ms')
  await until('the engine is back', () => supervisor.isServing)

  expect((await supervisor.snapshot()).running).toBeNull()
})

test('an engine that dies again and again is started with growing pauses, not in a tight loop', async () => {
  const { supervisor, script, port, pauses } = newSupervisor()
  await supervisor.start({ host: '127.0.0.1', port })
  const diedAtMs: number[] = []

  for (const death of [1, 2, 3]) {
    diedAtMs.push(performance.now())
    script.instruct({ do: 'throw', message: `death ${death}` })
    await until('the engine is back', () => supervisor.restarts.length === death && supervisor.isServing)
  }
  const backAtMs = performance.now()

  expect(pauses.count).toBe(2)
  // The second is twice as long as the first.
  expect(backAtMs - diedAtMs[2]!).toBeGreaterThan(450)
  expect(supervisor.restarts.map(({ reason }) => reason)).toEqual(['death 1', 'death 2', 'death 3'])
})

test('a lost server is told on', async () => {
  const { supervisor, script, port, lost } = newSupervisor()
  await supervisor.start({ host: '127.0.0.1', port })

  script.instruct({ do: 'say', message: { type: 'disconnect', disconnect: { pool: 'app' } as EngineDisconnect } })
  await until('it is told', () => lost.length === 1)

  expect(lost[0]?.pool).toBe('app')
})

test('a stop during a restart ends the thread that was just being started', async () => {
  const { supervisor, script, port } = newSupervisor()
  await supervisor.start({ host: '127.0.0.1', port })
  script.instruct({ do: 'throw', message: 'a bug' })
  await until('it died', () => supervisor.restarts.length === 1)

  await supervisor.stop('drain', 1000)

  expect(supervisor.isServing).toBe(false)
})
