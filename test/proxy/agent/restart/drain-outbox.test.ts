import { readdirSync } from 'node:fs'
import { appendFile, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { DrainOutbox, DrainReader } from '../../../../proxy/agent/restart/drain-outbox.ts'
import { Outbox } from '../../../../proxy/agent/outbox.ts'
import { atEndOfFile } from '../../../support/cleanup.ts'
import { tempFolder } from '../../../support/temp-folder.ts'
import { until } from '../until.ts'
import { event } from '../disconnect-event.ts'

const boot = 'aaaaaaaaaaaaaaaa'
const log = (): void => undefined

/** A state folder, the outbox in it, and a reader that has been started. */
async function newReader() {
  const stateFolder = await tempFolder()
  const outbox = await Outbox.open({ path: join(stateFolder, 'outbox.log'), eventsMax: 100, log })
  const reader = new DrainReader({ stateFolder, outbox, everyMs: 5, log, onEvents: () => undefined })
  atEndOfFile(async () => {
    await reader.stop()
    await outbox.close()
  })
  reader.start()
  const ids = (): string[] => outbox.oldest(1000).map(({ id }) => id)
  return { stateFolder, reader, ids, drains: () => readdirSync(join(stateFolder, 'drains')) }
}

test('what a process that drains loses comes over as it is lost, and its folder goes when it has ended', async () => {
  const { stateFolder, ids, drains } = await newReader()
  const drain = await DrainOutbox.open(stateFolder, boot, log)

  drain.append(event('a'))
  await until('the first is over', () => ids().includes('a'))
  drain.append(event('b'))
  await until('the second is over', () => ids().includes('b'))
  const during = drains()
  drain.append(event('c'))
  await drain.close()
  await until('its folder is gone', () => drains().length === 0)

  expect(during).toEqual([boot])
  expect(ids()).toEqual(['a', 'b', 'c'])
})

test('a line that is being written comes over when it is whole; what is no folder of a process is left alone', async () => {
  const { stateFolder, ids, drains } = await newReader()
  const drain = await DrainOutbox.open(stateFolder, boot, log)
  await mkdir(join(stateFolder, 'drains', 'notes'))
  const file = join(stateFolder, 'drains', boot, 'outbox.log')
  const line = `${JSON.stringify(event('b'))}\n`

  await appendFile(file, `${JSON.stringify(event('a'))}\n${line.slice(0, 40)}`)
  await until('the first is over', () => ids().includes('a'))
  await appendFile(file, line.slice(40))
  await until('the second is over', () => ids().includes('b'))
  await drain.close()
  await until('its folder is gone', () => !drains().includes(boot))

  expect(ids()).toEqual(['a', 'b'])
  expect(drains()).toEqual(['notes'])
})
