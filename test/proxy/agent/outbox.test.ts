import { closeSync, readdirSync, readlinkSync } from 'node:fs'
import { appendFile, readFile, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { LogLevel } from '../../../proxy/agent/log.ts'
import { Outbox } from '../../../proxy/agent/outbox.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { event } from './disconnect-event.ts'

async function newPlace() {
  const path = join(await tempFolder(), 'outbox.log')
  const logged: { level: LogLevel; message: string }[] = []
  const open = async (eventsMax = 100): Promise<Outbox> =>
    await Outbox.open({ path, eventsMax, log: (level, message) => logged.push({ level, message }) })
  const linesInFile = async (): Promise<number> => (await readFile(path, 'utf8')).split('\n').length - 1
  return { path, open, logged, linesInFile }
}

const ids = (outbox: Outbox): string[] => outbox.oldest(1000).map(({ id }) => id)

/** Lets what was appended in this turn reach the file. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve))
}

test('events are there after an abrupt end', async () => {
  const { open } = await newPlace()
  const outbox = await open()
  outbox.append(event('a'))
  outbox.append(event('b'))
  await turn()

  // Nothing is closed: the process was killed.
  const again = await open()

  expect(ids(again)).toEqual(['a', 'b'])
  expect(again.oldest(1)[0]).toEqual(event('a'))
})

test('an event of a later release is kept as it is, with its cause and fields', async () => {
  const { open, path, logged } = await newPlace()
  const later = { ...event('a'), cause: 'fenced', lag_bytes: 17 }
  await appendFile(path, `${JSON.stringify(later)}\n`)

  expect((await open()).oldest(1)).toEqual([later])
  expect(logged).toEqual([])
})

test('acknowledged events do not come back', async () => {
  const { open, path } = await newPlace()
  const outbox = await open()
  outbox.append(event('a'))
  outbox.append(event('b'))
  await turn()

  outbox.remove(new Set(['a', 'b']))
  outbox.append(event('c'))
  await outbox.close()

  expect(ids(await open())).toEqual(['c'])
  expect((await readFile(path, 'utf8')).trim().split('\n')).toHaveLength(1)
})

test('a torn last line is passed over with one warning, and the next event is whole', async () => {
  const { open, path, logged } = await newPlace()
  const outbox = await open()
  outbox.append(event('a'))
  outbox.append(event('b'))
  await outbox.close()
  await truncate(path, (await readFile(path)).length - 20)

  const torn = await open()
  torn.append(event('c'))
  await torn.close()
  const again = await open()

  expect(ids(again)).toEqual(['a', 'c'])
  expect(logged).toEqual([{ level: 'warn', message: 'damaged lines in the outbox, skipped' }])
})

test('a line that is no event is passed over', async () => {
  const { open, path } = await newPlace()
  const outbox = await open()
  outbox.append(event('a'))
  await outbox.close()
  await appendFile(path, '{"id":"x"}\n\u0000\u0000\n')

  expect(ids(await open())).toEqual(['a'])
})

test('when it is full the oldest events are dropped and counted', async () => {
  const { open } = await newPlace()
  const outbox = await open(3)

  for (const id of ['a', 'b', 'c', 'd', 'e']) outbox.append(event(id))

  expect(ids(outbox)).toEqual(['c', 'd', 'e'])
  expect(outbox.droppedEvents).toBe(2)
})

test('the file is bounded however many events pass through', async () => {
  const { open, linesInFile } = await newPlace()
  const outbox = await open(10)

  for (let i = 0; i < 200; i += 1) {
    outbox.append(event(`e${i}`))
    await turn()
  }
  await outbox.close()

  expect(await linesInFile()).toBeLessThanOrEqual(25)
  expect(ids(await open(10))).toEqual(Array.from({ length: 10 }, (_, i) => `e${190 + i}`))
})

test('an event that comes while the file is rewritten is in the new file', async () => {
  const { open, linesInFile } = await newPlace()
  const outbox = await open(5)
  for (let i = 0; i < 11; i += 1) outbox.append(event(`e${i}`))
  await turn()

  outbox.append(event('late'))
  await turn()
  await outbox.close()

  expect(ids(await open(5))).toEqual(['e7', 'e8', 'e9', 'e10', 'late'])
  expect(await linesInFile()).toBe(5)
})

test('a disk that refuses is told once, and the events wait in memory', async () => {
  const { open, path, logged } = await newPlace()
  const outbox = await open()
  // Its file is closed under it, so that every write fails.
  for (const fd of readdirSync('/proc/self/fd')) if (isFile(fd, path)) closeSync(Number(fd))

  outbox.append(event('a'))
  await turn()
  outbox.append(event('b'))
  await turn()

  expect(ids(outbox)).toEqual(['a', 'b'])
  expect(logged).toEqual([{ level: 'error', message: 'could not write the outbox; events are kept in memory only' }])
})

function isFile(fd: string, path: string): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === path
  } catch {
    return false
  }
}
