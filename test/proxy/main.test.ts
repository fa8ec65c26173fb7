/** The proxy as a process: what its exit code, its signals and its log promise to operators. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { constants } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { atEndOfFile } from '../support/cleanup.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { until } from './agent/until.ts'

const entry = join(import.meta.dirname, '../../proxy/main.ts')

interface Line {
  readonly level: string
  readonly message: string
  readonly [field: string]: unknown
}

const toml = (poolSize: number, port = 0): string => `
  [general]
  listen_host = "127.0.0.1"
  listen_port = ${port}
  [pools.app]
  pool_size = ${poolSize}
  servers = [{ host = "127.0.0.1", port = 9 }]
  [pools.app.users.web]
  password = "a secret word"
`

class Process {
  readonly #child
  readonly #ended: Promise<unknown[]>
  text = ''

  constructor(words: readonly string[], options: readonly string[] = ['--disable-sigusr1']) {
    this.#child = spawn(process.execPath, [...options, entry, ...words], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#ended = once(this.#child, 'exit')
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.on('data', (chunk: Buffer) => (this.text += chunk.toString()))
    }
    atEndOfFile(async () => {
      this.#child.kill('SIGKILL')
      await this.#ended
    })
  }

  get lines(): Line[] {
    const whole = this.text.split('\n').slice(0, -1)
    return whole.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Line)
  }

  async logs(message: string, count = 1): Promise<Line> {
    return await until(`"${message}" in ${this.text}`, () => this.lines.filter((l) => l.message === message)[count - 1])
  }

  /** Signals that its main thread does not receive now (proc_pid_status(5)): bit n - 1 is signal n. */
  get blocked(): bigint {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, 'utf8')
    const [, mask = '0'] = /^SigBlk:\s+([0-9a-f]+)$/m.exec(status) ?? []
    return BigInt(`0x${mask}`)
  }

  /** How often each of its threads has begun to wait (proc_pid_status(5)), by the thread's name. */
  async waits(): Promise<Map<string, number>> {
    const folder = `/proc/${this.#child.pid}/task`
    const counts = new Map<string, number>()
    for (const thread of await readdir(folder)) {
      const status = await readFile(join(folder, thread, 'status'), 'utf8')
      const [, name = ''] = /^Name:\s+(.+)$/m.exec(status) ?? []
      const [, waits] = /^voluntary_ctxt_switches:\s+(\d+)$/m.exec(status) ?? []
      counts.set(name, (counts.get(name) ?? 0) + Number(waits))
    }
    return counts
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  closeLog(): void {
    this.#child.stdout.destroy()
    this.#child.stderr.destroy()
  }

  async exitCode(): Promise<unknown> {
    const [code] = await this.#ended
    return code
  }
}

async function newFile(text: string): Promise<string> {
  const path = join(await tempFolder(), 'flotilla.toml')
  await writeFile(path, text)
  return path
}

test('SIGHUP reads the file again, SIGTERM ends the process with 0', async () => {
  const path = await newFile(toml(5))
  const proxy = new Process(['--config', path, '--http-port', '0'])
  await proxy.logs('version applied')
  await writeFile(path, toml(6))

  proxy.signal('SIGHUP')
  const second = await proxy.logs('version applied', 2)
  await writeFile(path, 'pool_size = 1')
  proxy.signal('SIGHUP')
  const refused = await proxy.logs('reload failed')
  proxy.signal('SIGTERM')

  expect(await proxy.exitCode()).toBe(0)
  expect(second).toMatchObject({ version: 2, retuned: 1, kept: 0 })
  expect(refused['reason']).toContain(`${path}: `)
  expect(proxy.text).not.toContain('a secret word')
})

test.for([
  ['one worker', '1', '--disable-sigusr1'],
  ['two workers', '2', '--disable-sigusr1'],
  ['Node started without --disable-sigusr1', '1', '--no-warnings'],
] as const)('SIGUSR1 is PAUSE and SIGUSR2 is RESUME, as in PgBouncer: %s', async ([, workers, option]) => {
  const words = ['--config', await newFile(toml(5)), '--http-port', '0', '--workers', workers]
  const proxy = new Process(words, [option])
  const { http_port: port } = await proxy.logs('starting')
  await proxy.logs('version applied')
  const paused = async (): Promise<string | undefined> => {
    const page = await (await fetch(`http://127.0.0.1:${String(port)}/metrics`)).text()
    return /^pgbouncer_databases_paused\{.*app.*\} (\d)$/m.exec(page)?.[1]
  }

  proxy.signal('SIGUSR1')
  await proxy.logs('paused')
  const whilePaused = await paused()
  proxy.signal('SIGUSR1')
  const again = await proxy.logs('pause had no effect')
  proxy.signal('SIGUSR2')
  await proxy.logs('resumed')
  const afterwards = await paused()
  proxy.signal('SIGTERM')

  expect(await proxy.exitCode()).toBe(0)
  expect([whilePaused, afterwards]).toEqual(['1', '0'])
  expect(again).toMatchObject({ level: 'warn', reason: 'already paused or suspended' })
  const signals = proxy.lines.filter(({ message }) => message === 'signal received')
  expect(signals.map(({ signal }) => signal)).toEqual(['SIGUSR1', 'SIGUSR1', 'SIGUSR2', 'SIGTERM'])
  expect(proxy.text).not.toContain('Debugger')
})

test('a SIGUSR1 that comes before the proxy can obey it waits, and opens no debugger', async () => {
  const proxy = new Process(['--config', await newFile(toml(5)), '--http-port', '0'])
  const bit = 1n << BigInt(constants.signals.SIGUSR1 - 1)
  await until('SIGUSR1 is blocked', () => (proxy.blocked & bit) !== 0n)

  proxy.signal('SIGUSR1')
  await proxy.logs('version applied')
  proxy.signal('SIGTERM')

  expect(await proxy.exitCode()).toBe(0)
  expect(proxy.lines.find(({ message }) => message === 'signal received')).toMatchObject({ signal: 'SIGUSR1' })
  expect(proxy.text).not.toContain('Debugger')
})

test('SIGQUIT ends the process at once', async () => {
  const proxy = new Process(['--config', await newFile(toml(5)), '--http-port', '0'])
  await proxy.logs('version applied')

  proxy.signal('SIGQUIT')

  expect(await proxy.exitCode()).toBe(0)
  expect(await proxy.logs('stopping')).toMatchObject({ mode: 'now' })
})

test('a proxy goes on when its log is no longer read', async () => {
  const path = await newFile(toml(5))
  const proxy = new Process(['--config', path, '--http-port', '0'])
  const { http_port: port } = await proxy.logs('starting')
  await proxy.logs('version applied')
  proxy.closeLog()

  proxy.signal('SIGHUP')
  const ready = await fetch(`http://127.0.0.1:${String(port)}/readyz`)
  proxy.signal('SIGTERM')

  expect(ready.status).toBe(200)
  expect(await proxy.exitCode()).toBe(0)
})

test('a file that cannot be used ends the process with 1 and names path and reason', async () => {
  const path = await newFile('[pools.app]\npool_sise = 1')
  const proxy = new Process(['--config', path, '--http-port', '0'])

  expect(await proxy.exitCode()).toBe(1)
  const { reason } = await proxy.logs('could not start')
  expect(reason).toContain(path)
  expect(reason).toContain('pools.app.pool_sise')
})

test('a port for clients that is in use ends the process with 1 and one reason', async () => {
  const holder = createServer().listen(0, '127.0.0.1')
  await once(holder, 'listening')
  atEndOfFile(() => void holder.close())
  const { port } = holder.address() as AddressInfo
  const proxy = new Process(['--config', await newFile(toml(5, port)), '--http-port', '0'])

  expect(await proxy.exitCode()).toBe(1)
  const { reason } = await proxy.logs('fatal error')
  expect(reason).toMatch(new RegExp(`^could not listen on 127.0.0.1:${port}: .*EADDRINUSE`))
})

test('a port for hints that is in use ends the process with 1', async () => {
  const holder = createServer().listen(0, '127.0.0.1')
  await once(holder, 'listening')
  atEndOfFile(() => void holder.close())
  const { port } = holder.address() as AddressInfo
  const proxy = new Process(['--config', await newFile(toml(5)), '--http-port', String(port)])

  expect(await proxy.exitCode()).toBe(1)
  expect((await proxy.logs('could not start'))['reason']).toContain('EADDRINUSE')
})

test('wrong words end the process with 2', async () => {
  const proxy = new Process(['--config'])

  expect(await proxy.exitCode()).toBe(2)
  expect(proxy.text).toMatch(/^proxy: /)
})

test('a proxy without clients sleeps: neither of its threads wakes more than a few times a second', async () => {
  const proxy = new Process(['--config', await newFile(toml(5)), '--http-port', '0'])
  await proxy.logs('version applied')
  // What starting leaves to do in the background is over.
  await sleep(1500)

  const before = await proxy.waits()
  await sleep(2000)
  const after = await proxy.waits()

  const woken = ['MainThread', 'engine'].map((thread) => (after.get(thread) ?? NaN) - (before.get(thread) ?? NaN))
  for (const count of woken) expect(count).toBeLessThan(40)
  proxy.signal('SIGTERM')
  expect(await proxy.exitCode()).toBe(0)
})
