import { createServer } from 'node:http'
import type { IncomingHttpHeaders } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import type { AddressInfo, Server, Socket } from 'node:net'
import { expect, test } from 'vitest'
import { hintHeaders } from '../../../control/domain/hint-signature.ts'
import { NodeHints } from '../../../control/node/hints.ts'
import type { HintTarget } from '../../../control/store/proxies.ts'
import { verifiedHint } from '../../../proxy/agent/hint.ts'
import type { Hint } from '../../../shared/wire.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { freePort } from '../../support/free-port.ts'

const secret = `whsec_${Buffer.from('a secret of thirty-two bytes, ok').toString('base64')}`
const hint: Hint = { fleet: 'demo', epoch: 1, version: 3, reason: 'version' }

/** Nothing listens there. */
const refusing = `http://127.0.0.1:${await freePort()}`

type Result = 'delivered' | 'failed' | 'silenced'

/** Hints with a clock of their own, and what became of each. */
function sender() {
  const clock = { nowMs: Date.now() }
  const results: Result[] = []
  const faults: string[] = []
  let told: (() => void) | undefined
  const hints = new NodeHints({
    nowMs: () => clock.nowMs,
    secretOf: () => secret,
    onResult: (result) => {
      results.push(result)
      told?.()
    },
    onFault: ({ proxy }, message) => faults.push(`${proxy}: ${message}`),
  })
  atEndOfFile(() => hints.close())
  return {
    hints,
    clock,
    results,
    faults,
    /** Resolves when `count` results are known. */
    until: async (count: number): Promise<Result[]> => {
      while (results.length < count) {
        await new Promise<void>((resolve) => {
          told = resolve
        })
      }
      return results
    },
  }
}

interface Received {
  readonly url: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** A proxy that answers every hint with `status`. */
async function proxy(status: number): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      received.push({ url: request.url!, headers: request.headers, body: Buffer.concat(chunks).toString() })
      response.writeHead(status).end('{}')
    })
  })
  return { url: await listening(server), received }
}

/** A proxy that takes connections and never says a word. */
async function silentProxy(onSocket: (socket: Socket) => void = () => undefined): Promise<string> {
  const sockets = new Set<Socket>()
  const server = createTcpServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined).resume()
    onSocket(socket)
  })
  atEndOfFile(() => {
    for (const socket of sockets) socket.destroy()
  })
  return await listening(server)
}

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEndOfFile(() => void server.close())
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function target(name: string, url: string): HintTarget {
  return { fleet: 'demo', proxy: name, boot: 'boot', hint_url: url }
}

test('the signature is that of the Standard Webhooks example', () => {
  const headers = hintHeaders(
    'whsec_plJ3nmyCDGBKInavdOK15jsl',
    'msg_loFOjxBNrRLzqYUf',
    1731705121,
    '{"event_type":"ping","data":{"success":true}}',
  )

  expect(headers['webhook-signature']).toBe('v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=')
})

test('a hint reaches the proxy signed, and the agent takes it for what it is', async () => {
  const { url, received } = await proxy(202)
  const { hints, until } = sender()

  hints.send([target('p1', `${url}/behind/`)], hint)
  const results = await until(1)

  expect(results).toEqual(['delivered'])
  const [{ headers, body, url: path }] = received as [Received]
  expect(path).toBe('/behind/v1/hint')
  const signed = {
    id: headers['webhook-id'] as string,
    timestamp: headers['webhook-timestamp'] as string,
    signature: headers['webhook-signature'] as string,
  }
  expect(verifiedHint(signed, Buffer.from(body), secret, new Date())).toEqual(hint)
  expect(verifiedHint(signed, Buffer.from(body.replace('3', '4')), secret, new Date())).toBeUndefined()
})

test('silent and dead proxies delay no hint to others', async () => {
  const { url } = await proxy(202)
  const silent = await silentProxy()
  const { hints, results, until } = sender()
  const mute = Array.from({ length: 30 }, (_, index) => target(`silent${index}`, silent))
  const dead = Array.from({ length: 10 }, (_, index) => target(`dead${index}`, refusing))

  hints.send([...mute, ...dead, target('good', url)], hint)
  const told = results.length
  while (!results.includes('delivered')) await until(results.length + 1)

  expect(told).toBe(0)
  // None of those that say nothing has been given up by then.
  expect(results.length).toBeLessThanOrEqual(1 + dead.length)
})

test('a proxy that fails three hints is left alone for a minute, or until it says hello', async () => {
  const { url, received } = await proxy(503)
  const { hints, clock, until } = sender()
  const p1 = [target('p1', url)]
  for (let count = 1; count <= 3; count += 1) {
    hints.send(p1, { ...hint, version: count })
    await until(count)
  }

  hints.send(p1, { ...hint, version: 4 })
  clock.nowMs += 60_000
  hints.send(p1, { ...hint, version: 5 })
  await until(5)
  hints.send(p1, { ...hint, version: 6 })
  hints.send(p1, { ...hint, version: 7 })
  hints.cleared('demo', 'p1', 'boot')
  hints.send(p1, { ...hint, version: 8 })
  const results = await until(8)

  expect(results).toEqual(['failed', 'failed', 'failed', 'silenced', 'failed', 'silenced', 'silenced', 'failed'])
  // Two attempts each.
  expect(received.map(({ body }) => (JSON.parse(body) as Hint).version)).toEqual([1, 1, 2, 2, 3, 3, 5, 5, 8, 8])
})

test('hints that wait for the same proxy become one, the newest', async () => {
  const { url, received } = await proxy(202)
  const { hints, until } = sender()

  for (let version = 1; version <= 20; version += 1) hints.send([target('p1', url)], { ...hint, version })
  await until(2)

  expect(received.map(({ body }) => (JSON.parse(body) as Hint).version)).toEqual([1, 20])
})

test('a hint that fails by a fault of the proxy is told with the fault', async () => {
  const { url } = await proxy(302)
  const { hints, faults, until } = sender()

  hints.send([target('redirecting', url), target('metadata', 'http://169.254.169.254')], hint)
  hints.send([target('refusing', refusing)], hint)
  await until(3)

  expect(faults.toSorted()).toEqual([
    'metadata: hint_url: 169.254.169.254 is a link-local address',
    'redirecting: the answer has status 302',
  ])
})

test('closing gives up what is under way at once', async () => {
  const [other, closing] = [sender(), sender()]
  const ended: string[] = []
  for (const [name, { hints }] of Object.entries({ other, closing })) {
    const connected = Promise.withResolvers<void>()
    const url = await silentProxy((socket) => {
      socket.on('close', () => ended.push(name))
      connected.resolve()
    })
    hints.send([target('silent', url)], hint)
    await connected.promise
  }

  await closing.hints.close()
  closing.hints.send([target('later', refusing)], hint)
  await other.until(1)

  // The other was sent before, and was given its time.
  expect(ended[0]).toBe('closing')
  expect(closing.results).toEqual([])
})
