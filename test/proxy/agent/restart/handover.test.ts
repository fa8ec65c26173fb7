/** What a process that starts does while it asks the one that runs for its listener. */
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Handover, takeOver } from '../../../../proxy/agent/restart/handover.ts'
import { atEndOfFile } from '../../../support/cleanup.ts'
import { flotillaWords, Running } from '../../../support/command-line.ts'
import { freePort } from '../../../support/free-port.ts'
import { tempFolder } from '../../../support/temp-folder.ts'

const stdoutFd = 1

test('a process that asks another one goes on meanwhile, and takes what it is given then', async () => {
  const path = join(await tempFolder(), 'takeover')
  const asked = Promise.withResolvers<void>()
  const handedOver = Promise.withResolvers<{ host: string; port: number; fd: number; unix: null }>()
  const done = Promise.withResolvers<void>()
  const handover = new Handover({
    path,
    log: () => undefined,
    handOver: async () => {
      asked.resolve()
      return await handedOver.promise
    },
    done: done.resolve,
    takeBack: async () => done.reject(new Error('it was not taken')),
  })
  await handover.listen()

  // Both ends are in this very thread: who held it up would wait for himself.
  const taking = takeOver(path, new AbortController().signal)
  await asked.promise
  handedOver.resolve({ host: '127.0.0.1', port: 6432, fd: stdoutFd, unix: null })
  const taken = await taking
  taken?.ready()
  await done.promise

  expect(taken?.listeners).toMatchObject({ host: '127.0.0.1', port: 6432 })
  expect(taken?.listeners.fd).toBeGreaterThan(stdoutFd)
})

test('a process that is told to end while it asks does so at once, and lets the other go', async () => {
  const folder = await tempFolder()
  const path = join(folder, 'takeover')
  const silent = createServer().listen(path)
  atEndOfFile(() => void silent.close())
  await once(silent, 'listening')
  const connected = once(silent, 'connection')
  const words = ['--config', join(folder, 'proxy.toml'), '--http-port', String(await freePort())]
  const proxy = new Running(flotillaWords('proxy', ...words), { FLOTILLA_TAKEOVER: path })
  const [asking] = (await connected) as [Socket]
  const letGo = once(asking.resume(), 'end')

  const code = await proxy.end('SIGTERM')

  expect(code).toBe(0)
  await letGo
})
