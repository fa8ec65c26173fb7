/** The supervisor with the product's engine, where a scripted one would prove too little. */
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Supervisor } from '../../../proxy/agent/supervisor.ts'
import { EngineDied } from '../../../proxy/agent/engine-thread.ts'
import type { FleetSpec } from '../../../proxy/spec.ts'
import { KeyCounts } from '../../../proxy/memory/key-counts.ts'
import { SchemaChanges } from '../../../proxy/memory/schema-changes.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { sslRequest } from '../../support/frontend-messages.ts'
import { unheard } from './unheard.ts'
import { until } from './until.ts'

const entry = new URL('../../../proxy/engine/main.ts', import.meta.url)

async function startSupervisor() {
  const pauses = { count: 0 }
  const supervisor = new Supervisor({
    entry,
    answerMs: 10_000,
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
  })
  atEndOfFile(async () => await supervisor.stop('now', 0))
  const address = await supervisor.start({ host: '127.0.0.1', port: 0 })
  return { supervisor, address, pauses }
}

/** What the agent never sends: the engine fails on it as it would on a bug of its own. */
async function kill(supervisor: Supervisor): Promise<void> {
  await expect(supervisor.apply(null as unknown as FleetSpec, true)).rejects.toThrow(EngineDied)
}

/** A client that the engine has: one that only waits to be accepted is left to the next engine. */
async function accepted(address: { host: string; port: number }): Promise<Socket> {
  const client = connect(address).on('error', () => undefined)
  client.write(sslRequest)
  await once(client, 'data')
  return client
}

async function closed(client: Socket): Promise<void> {
  await new Promise((resolve) => client.once('close', resolve))
}

test('an engine that failed listens on the same port again without a pause, and its clients are let go', async () => {
  const { supervisor, address, pauses } = await startSupervisor()
  const gone = closed(await accepted(address))

  await kill(supervisor)
  await gone
  await until('the engine is back', () => supervisor.restartCount === 1 && supervisor.isServing)
  const again = connect(address)
  await once(again, 'connect')
  again.destroy()

  expect(pauses.count).toBe(0)
  expect(supervisor.address).toEqual(address)
})

test('engines that die leave no file descriptor behind', async () => {
  const { supervisor, address } = await startSupervisor()
  const dieWithClients = async (death: number): Promise<void> => {
    const clients = await Promise.all(Array.from({ length: 20 }, async () => await accepted(address)))
    const gone = clients.map(closed)
    await kill(supervisor)
    await Promise.all(gone)
    await until('the engine is back', () => supervisor.restartCount === death && supervisor.isServing)
  }
  // The first death may make Node open something for itself; what a death costs shows from the second on.
  await dieWithClients(1)
  const before = openCount()

  for (const death of [2, 3]) await dieWithClients(death)

  const after = await until('the sockets of the test itself are closed', () => openCount() <= before && openCount())
  expect(after).toBeLessThanOrEqual(before)
})

function openCount(): number {
  return readdirSync('/proc/self/fd').length
}

test('a port in use is told in one line', async () => {
  const { address } = await startSupervisor()
  const other = new Supervisor({
    entry,
    answerMs: 10_000,
    log: () => undefined,
    process: {
      mockKey: new Uint8Array(32),
      failedLogins: KeyCounts.memory(),
      schemaChanges: SchemaChanges.memory(),
      ioUring: true,
    },
    chance: { now: () => new Date(), random: () => 0.5 },
    ...unheard,
  })

  await expect(other.start(address)).rejects.toThrow(/^the engine died: .*EADDRINUSE[^\n]*$/)
})
