import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { processSettings, tryProcessSettings } from '../../../proxy/agent/process-settings.ts'
import type { ProcessSettings } from '../../../proxy/agent/process-settings.ts'
import { generalSettings } from '../../../shared/config/settings.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { freePort } from '../../support/free-port.ts'
import { tempFolder } from '../../support/temp-folder.ts'

const running = processSettings({ ...generalSettings({}), listenHost: '127.0.0.1' })

/** Null, or code and message of the refusal. */
async function outcome(
  next: Partial<ProcessSettings>,
  listen: { host: string | null; port: number | null } = { host: null, port: null },
): Promise<string | null> {
  const lookup = async (): Promise<string[]> => await Promise.reject(new Error('getaddrinfo ENOTFOUND'))
  return await tryProcessSettings({ next: { ...running, ...next }, running, listen, lookup }).then(
    () => null,
    (error: { code: string; message: string }) => `${error.code}: ${error.message}`,
  )
}

async function heldPort(): Promise<number> {
  const holder = createServer().listen(0, '127.0.0.1')
  await once(holder, 'listening')
  atEndOfFile(() => void holder.close())
  return (holder.address() as AddressInfo).port
}

test('a free port and a directory are accepted, and nothing listens there', async () => {
  const listenPort = await freePort()

  expect(await outcome({ listenPort, unixSocketDir: await tempFolder(), workers: 4 })).toBeNull()

  const listener = createServer().listen(listenPort, '127.0.0.1')
  await once(listener, 'listening')
  listener.close()
})

test('a port on which another process listens is refused', async () => {
  const listenPort = await heldPort()

  expect(await outcome({ listenPort })).toMatch(/^cannot_start: .*listen_port: .*EADDRINUSE/)
})

test('the port that the command line gives is what counts', async () => {
  expect(await outcome({ listenPort: await heldPort() }, { host: null, port: 6432 })).toBeNull()
})

test('another address with the port of this process is tried without that port, which the process itself holds', async () => {
  const port = await heldPort()

  expect(await outcome({ listenHost: '0.0.0.0' }, { host: null, port })).toBeNull()
  expect(await outcome({ listenHost: '192.0.2.1' }, { host: null, port })).toMatch(/^cannot_start: .*EADDRNOTAVAIL/)
})

test('a name that does not resolve is refused', async () => {
  expect(await outcome({ listenHost: 'no-such-host.invalid' })).toMatch(/^cannot_start: .*listen_host: .*ENOTFOUND/)
})

test('a directory that is none or does not exist is refused', async () => {
  const file = join(await tempFolder(), 'file')
  await writeFile(file, '')

  expect(await outcome({ unixSocketDir: '/nonexistent' })).toMatch(/^cannot_start: .*unix_socket_dir: .*ENOENT/)
  expect(await outcome({ unixSocketDir: file })).toMatch(/^cannot_start: .*unix_socket_dir: .*is not a directory/)
})
