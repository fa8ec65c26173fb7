import { createHmac } from 'node:crypto'
import { request } from 'node:http'
import { expect, test } from 'vitest'
import { HttpServer } from '../../../proxy/agent/http.ts'
import type { Hint, OperationRequest } from '../../../shared/wire.ts'
import { atEndOfFile } from '../../support/cleanup.ts'

const key = Buffer.from('a key')
const now = new Date('2026-01-01T00:00:00Z')
const timestamp = String(now.getTime() / 1000)

async function newServer(secret: string | null = `whsec_${key.toString('base64')}`, token: string | null = null) {
  const hints: Hint[] = []
  const operations: OperationRequest[] = []
  const operated: string[] = []
  const server = new HttpServer({
    log: () => undefined,
    token,
    onOperation: async (operation, pool) => {
      operated.push(`${operation} ${pool}`)
      return await Promise.resolve({ known: pool !== 'missing', paused: operation === 'pause', servers: 1 })
    },
    onReload: async () => await Promise.resolve(operated.includes('pause app') ? 'line 3 is wrong' : null),
    now: () => now,
    fleet: 'demo',
    hintSecret: () => secret,
    onHint: (hint) => hints.push(hint),
    onControlOperation: async (request) => {
      operations.push(request)
      return await Promise.resolve({ known: true, paused: true, servers: 2 })
    },
    notReady: () => null,
    notes: async () => await Promise.resolve(['app/web does not serve']),
    metrics: async () => await Promise.reject(new Error('no metrics here')),
  })
  const port = await server.listen({ host: '127.0.0.1', port: 0 })
  atEndOfFile(async () => await server.close())
  return { hints, operations, operated, port, url: `http://127.0.0.1:${port}` }
}

function signed(body: string): RequestInit {
  const signature = createHmac('sha256', key).update(`m.${timestamp}.${body}`).digest('base64')
  return {
    method: 'POST',
    body,
    headers: { 'webhook-id': 'm', 'webhook-timestamp': timestamp, 'webhook-signature': `v1,${signature}` },
  }
}

const body = JSON.stringify({ fleet: 'demo', epoch: 1, version: 2, reason: 'version' })

const token = 'the token of this proxy'.replaceAll(' ', '-')

async function ask(url: string, path: string, bearer: string | null = token, method = 'POST') {
  const response = await fetch(`${url}${path}`, {
    method,
    ...(bearer === null ? {} : { headers: { authorization: `Bearer ${bearer}` } }),
  })
  return `${response.status} ${(await response.text()).trim()}`
}

test('the token of this proxy allows every operation of control, and a reload', async () => {
  const { url, operated } = await newServer(null, token)

  expect(await ask(url, '/v1/reload')).toBe('200 reloaded')
  expect(await ask(url, '/v1/pools/app/pause')).toBe('200 {"known":true,"paused":true,"servers":1}')
  expect(await ask(url, '/v1/pools/a%20%2F%C3%A4/kill')).toBe('200 {"known":true,"paused":false,"servers":1}')
  expect(await ask(url, '/v1/pools/missing/resume')).toBe('404 {"known":false,"paused":false,"servers":1}')
  expect(await ask(url, '/v1/reload')).toBe('503 line 3 is wrong')
  expect(operated).toEqual(['pause app', 'kill a /ä', 'resume missing'])
})

test('without the token nothing is executed, nor is an operation that does not exist', async () => {
  const { url, operated } = await newServer(null, token)
  const without = await newServer()

  for (const bearer of [null, 'x', `${token}x`, token.slice(1), '']) {
    expect(await ask(url, '/v1/pools/app/pause', bearer)).toMatch(/^401 this proxy's token is required/)
    expect(await ask(url, '/v1/reload', bearer)).toMatch(/^401/)
  }
  expect(await ask(without.url, '/v1/pools/app/pause')).toBe('403 this proxy was started without --http-token')
  expect(await ask(url, '/v1/pools/%ff/pause')).toBe('400 the pool name is not percent-encoded UTF-8')
  expect(await ask(url, '/v1/pools/app/pause', token, 'GET')).toBe('405 method not allowed')
  expect(await ask(url, '/v1/pools/app/drop')).toBe('404 not found')
  expect([...operated, ...without.operated]).toEqual([])
})

test('a signed hint is accepted and handed on', async () => {
  const { url, hints } = await newServer()

  const response = await fetch(`${url}/v1/hint`, signed(body))

  expect(response.status).toBe(202)
  expect(hints).toEqual([{ fleet: 'demo', epoch: 1, version: 2, reason: 'version' }])
})

test('a hint that is not signed, or comes before control has given the secret, is refused', async () => {
  const { url, hints } = await newServer()
  const early = await newServer(null)

  expect((await fetch(`${url}/v1/hint`, { method: 'POST', body })).status).toBe(401)
  expect((await fetch(`${early.url}/v1/hint`, signed(body))).status).toBe(401)
  expect([...hints, ...early.hints]).toEqual([])
})

test('a hint for a reason of a later release is handed on as one to reload', async () => {
  const { url, hints } = await newServer()

  const response = await fetch(`${url}/v1/hint`, signed(body.replace('"version"}', '"rollout","wave":2}')))

  expect(response.status).toBe(202)
  expect(hints).toEqual([{ fleet: 'demo', epoch: 1, version: 2, reason: 'reload' }])
})

test('an operation of a later release is refused by its name, and nothing is done', async () => {
  const { url, operations } = await newServer()

  const later = JSON.stringify({ fleet: 'demo', operation: 'hibernate', pool: 'app' })
  const response = await fetch(`${url}/v1/order`, signed(later))

  expect([response.status, await response.text()]).toEqual([
    501,
    'this proxy is too old for the operation "hibernate"\n',
  ])
  expect(operations).toEqual([])
})

const operation = JSON.stringify({ fleet: 'demo', operation: 'pause', pool: 'app' })

test('a signed operation is executed and answered, once', async () => {
  const { url, operations } = await newServer()

  const first = await fetch(`${url}/v1/order`, signed(operation))
  const again = await fetch(`${url}/v1/order`, signed(operation))

  expect([first.status, await first.json()]).toEqual([200, { known: true, paused: true, servers: 2 }])
  expect(again.status).toBe(409)
  expect(operations).toEqual([{ fleet: 'demo', operation: 'pause', pool: 'app' }])
})

test('an operation is rejected without a signature, without its fields and for another fleet', async () => {
  const { url, operations } = await newServer()
  const early = await newServer(null)
  const other = JSON.stringify({ fleet: 'other', operation: 'pause', pool: 'app' })

  expect((await fetch(`${url}/v1/order`, { method: 'POST', body: operation })).status).toBe(401)
  expect((await fetch(`${early.url}/v1/order`, signed(operation))).status).toBe(401)
  expect((await fetch(`${url}/v1/order`, signed(body))).status).toBe(401)
  expect((await fetch(`${url}/v1/order`, signed(other))).status).toBe(409)
  expect([...operations, ...early.operations]).toEqual([])
})

test('a hint for another fleet is refused', async () => {
  const { url, hints } = await newServer()
  const other = JSON.stringify({ fleet: 'other', epoch: 1, version: 2, reason: 'version' })

  expect((await fetch(`${url}/v1/hint`, signed(other))).status).toBe(409)
  expect(hints).toEqual([])
})

test('a hint longer than 4 KiB is refused without reading it to its end', async () => {
  const { port, hints } = await newServer()
  const { promise, resolve, reject } = Promise.withResolvers<number | undefined>()

  const upload = request({ port, host: '127.0.0.1', path: '/v1/hint', method: 'POST' }, (response) => {
    resolve(response.statusCode)
    upload.destroy()
  })
  upload.on('error', reject)
  upload.write(Buffer.alloc(5000, 'a')) // and it never ends

  expect(await promise).toBe(413)
  expect(hints).toEqual([])
})

test('an unknown path is not found, a known one with another method is not allowed', async () => {
  const { url } = await newServer()

  expect((await fetch(`${url}/v1/config`)).status).toBe(404)
  expect((await fetch(`${url}/v1/hint`)).status).toBe(405)
  expect((await fetch(`${url}/livez?probe=1`, { method: 'HEAD' })).status).toBe(200)
})

test('a handler that fails answers 500 and does not tell why', async () => {
  const { url } = await newServer()

  const response = await fetch(`${url}/metrics`)

  expect(response.status).toBe(500)
  expect(await response.text()).toBe('internal error\n')
})
