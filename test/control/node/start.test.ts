import { chmodSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import { ControlCannotStart, raiseEpoch, startControl } from '../../../control/node.ts'
import type { ControlOptions } from '../../../control/node.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { document } from '../in-process.ts'

const operatorToken = 'the-operator-of-the-tests'

interface Started {
  readonly port: number
  readonly data: string
  readonly close: () => Promise<void>
}

async function start(over: Partial<ControlOptions> = {}): Promise<Started> {
  const data = over.data ?? (await tempFolder())
  const running = await startControl({ port: 0, operatorToken, log: () => undefined, ...over, data })
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => (closed ??= running.close())
  atEndOfFile(close)
  return { port: running.port, close, data }
}

async function call(
  control: Started,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
) {
  const response = await fetch(`http://127.0.0.1:${control.port}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${operatorToken}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, body: text.startsWith('{') ? (JSON.parse(text) as unknown) : text }
}

async function apply(control: Started, version: number, user: Record<string, unknown>) {
  return await call(control, 'PUT', '/v1/fleets/demo/config', document(user), { 'if-match': `"v${version}"` })
}

async function whyNot(options: Partial<ControlOptions>): Promise<string> {
  try {
    await start(options)
  } catch (error) {
    if (error instanceof ControlCannotStart) return error.message
    throw error
  }
  throw new Error('it started')
}

test('what was configured is there after a restart, secrets included', async () => {
  const first = await start()
  await call(first, 'PUT', '/v1/fleets/demo')
  await apply(first, 0, {})
  await first.close()

  const second = await start({ data: first.data })

  expect((await call(second, 'GET', '/v1/fleets/demo')).body).toMatchObject({ version: 1, epoch: 1 })
  expect((await apply(second, 1, { pool_size: 2 })).status).toBe(201)
  // The same key seals it, so the same password makes no second version of its secret.
  expect((await call(second, 'GET', '/v1/fleets/demo/secrets')).body).toMatchObject({ secrets: [{ version: 1 }] })
})

test('the key file is made for its owner alone', async () => {
  const { data } = await start()

  expect(statSync(join(data, 'secret.key')).mode & 0o777).toBe(0o600)
  expect(Buffer.from(readFileSync(join(data, 'secret.key'), 'utf8'), 'base64')).toHaveLength(32)
})

test('a key file that others can read is refused', async () => {
  const { data, close } = await start()
  await close()
  chmodSync(join(data, 'secret.key'), 0o644)

  expect(await whyNot({ data })).toMatch(/secret\.key contains the secret key and is accessible to other users/)
})

test('another secret key than that of the store is refused, and so is one that is none', async () => {
  const key = Buffer.alloc(32, 1).toString('base64')
  const { data, close } = await start({ secretKey: key })
  await close()

  expect(await whyNot({ data, secretKey: Buffer.alloc(32, 2).toString('hex') })).toMatch(
    /were sealed with another secret key/,
  )
  expect(await whyNot({ data, secretKey: 'c2hvcnQ=' })).toMatch(/FLOTILLA_SECRET_KEY must be 32 bytes/)
  const again = await start({ data, secretKey: Buffer.alloc(32, 1).toString('hex') })
  expect(again.port).toBeGreaterThan(0)
})

test('a second control on one directory is refused, and may start when the first has ended', async () => {
  const { data, close } = await start()

  const refused = await whyNot({ data })
  await close()

  expect(refused).toBe(`another control is running on ${data}: stop it, or choose another directory with --data`)
  expect((await start({ data })).port).toBeGreaterThan(0)
})

test('the store is readable by its owner alone, also one that others could read before', async () => {
  const { data, close } = await start()
  await close()
  chmodSync(join(data, 'control.db'), 0o644)
  const again = await start({ data })
  await call(again, 'PUT', '/v1/fleets/demo')

  const modes = readdirSync(data).map((name) => [name, (statSync(join(data, name)).mode & 0o077).toString(8)])
  expect(modes.filter(([name, others]) => name?.startsWith('control.db') && others !== '0')).toEqual([])
})

test('while another process holds the lock of the store, reads go on and a write is told to try again', async () => {
  const control = await start()
  await call(control, 'PUT', '/v1/fleets/demo')
  const other = new Database(join(control.data, 'control.db'))
  other.exec('BEGIN IMMEDIATE')

  const refusing = call(control, 'PUT', '/v1/fleets/other')
  const reads = [await call(control, 'GET', '/livez'), await call(control, 'GET', '/v1/fleets/demo')]
  const refused = await refusing
  const waiting = call(control, 'PUT', '/v1/fleets/third')
  other.exec('ROLLBACK')
  other.close()

  expect(reads.map(({ status }) => status)).toEqual([200, 200])
  expect(refused).toMatchObject({
    status: 503,
    body: { detail: expect.stringContaining('nothing was stored') as string },
  })
  expect((await waiting).status).toBe(201)
  expect((await call(control, 'GET', '/v1/fleets')).body).toMatchObject({
    fleets: [{ name: 'demo' }, { name: 'third' }],
  })
  expect((await call(control, 'GET', '/metrics')).body).toContain(
    'flotilla_control_store_failures_total{reason="busy"} 1',
  )
})

test('a port in use is told in one line', async () => {
  const taken = createServer()
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve))
  atEndOfFile(() => void taken.close())
  const { port } = taken.address() as AddressInfo

  expect(await whyNot({ port })).toBe(`could not listen on 127.0.0.1 port ${port}: the port is in use`)
})

test('a damaged store is refused with its path', async () => {
  const { data, close } = await start()
  await close()
  const path = join(data, 'control.db')
  truncateSync(path, 5000)

  const truncated = await whyNot({ data })
  writeFileSync(path, 'garbage'.repeat(1000))
  const garbage = await whyNot({ data })

  expect(truncated).toContain(path)
  expect(garbage).toContain(path)
})

test('a folder that cannot be made, and a token that is too short, are refused', async () => {
  const file = join(await tempFolder(), 'file')
  writeFileSync(file, '')

  expect(await whyNot({ data: join(file, 'folder') })).toMatch(/could not create the directory/)
  expect(await whyNot({ operatorToken: 'short' })).toMatch(/at least 8 characters/)
})

/** Fleet `demo` and proxy `p1` of it; `seen` begins a poll and resolves once control has seen it. */
async function withProxy(control: Started) {
  await call(control, 'PUT', '/v1/fleets/demo')
  const { body } = await call(control, 'POST', '/v1/fleets/demo/tokens', { name: 'x' })
  const authorization = `Bearer ${(body as { token: string }).token}`
  const hello = { boot: 'b', agent_version: '1', listen: 'x' }
  await call(control, 'POST', '/v1/fleets/demo/proxies/p1/hello', hello, { authorization })
  const lastSeen = async () =>
    ((await call(control, 'GET', '/v1/fleets/demo/proxies/p1')).body as { last_seen_at: string }).last_seen_at
  return {
    headers: { authorization, prefer: 'wait=60', 'flotilla-proxy': 'p1' },
    seen: async (begin: () => void): Promise<void> => {
      const before = await lastSeen()
      // Another millisecond, so that the poll's time differs.
      while (Date.now() <= Date.parse(before)) continue
      begin()
      while ((await lastSeen()) === before) continue
    },
  }
}

test('closing lets parked polls go and answers them', async () => {
  const control = await start()
  const { headers, seen } = await withProxy(control)
  let parked: ReturnType<typeof call> | undefined
  await seen(() => {
    parked = call(control, 'GET', '/v1/fleets/demo/manifest', undefined, headers)
  })

  await control.close()

  // Neither held for its minute nor cut off.
  expect((await parked!).status).toBe(204)
})

test('a parked poll ends when its caller hangs up', async () => {
  const control = await start()
  const { headers, seen } = await withProxy(control)
  const caller = connect(control.port, '127.0.0.1')
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  await seen(() => caller.write(`GET /v1/fleets/demo/manifest HTTP/1.1\r\nhost: x\r\n${lines.join('')}\r\n`))
  const ended = async () =>
    String((await call(control, 'GET', '/metrics')).body).includes('polls_total{result="none"} 1')
  const endedBefore = await ended()

  caller.destroy()
  while (!(await ended())) continue

  expect(endedBefore).toBe(false)
})

test('after a restore the epoch is raised, with control running or stopped', async () => {
  const control = await start()
  await call(control, 'PUT', '/v1/fleets/demo')

  expect(await raiseEpoch(control.data)).toBe(2)
  expect((await call(control, 'GET', '/v1/fleets/demo')).body).toMatchObject({ epoch: 2 })
  await control.close()
  expect(await raiseEpoch(control.data)).toBe(3)
})
