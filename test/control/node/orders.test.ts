import { createServer } from 'node:http'
import type { RequestListener, ServerResponse } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { expect, test } from 'vitest'
import { NodeOrders } from '../../../control/node/orders.ts'
import { answerBytesMax } from '../../../control/node/proxy-requests.ts'
import type { HintTarget } from '../../../control/store/proxies.ts'
import type { Order } from '../../../shared/wire.ts'
import { atEndOfFile } from '../../support/cleanup.ts'

const order: Order = { fleet: 'demo', operation: 'pause', pool: 'app' }
const outcome = { known: true, paused: true, servers: 2 }
/** More than what sockets and HTTP parsers hold, much less than what arrives within the time limit of an operation. */
const bufferedBytesMax = 32 * 1024 * 1024

function newOrders(timeoutMs?: number): NodeOrders {
  const secret = `whsec_${Buffer.alloc(32).toString('base64')}`
  const orders = new NodeOrders({ nowMs: Date.now, secretOf: () => secret }, timeoutMs)
  atEndOfFile(async () => await orders.close())
  return orders
}

/** A proxy that answers as `respond` does. */
async function proxy(respond: RequestListener): Promise<HintTarget> {
  const server = createServer((request, response) => {
    request.resume()
    response.on('error', () => undefined)
    respond(request, response)
  })
  atEndOfFile(() => server.closeAllConnections())
  return target(await listening(server))
}

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  atEndOfFile(() => void server.close())
  return (server.address() as AddressInfo).port
}

function target(port: number): HintTarget {
  return { fleet: 'demo', proxy: 'p1', boot: 'boot', hint_url: `http://127.0.0.1:${port}` }
}

/** Writes for as long as the other side reads. Counts what it wrote. */
function writeForEver(response: ServerResponse, onWritten: (bytes: number) => void): void {
  const chunk = Buffer.alloc(64 * 1024, ' ')
  const more = (): void => {
    while (!response.destroyed) {
      onWritten(chunk.length)
      if (!response.write(chunk)) return
    }
  }
  response.on('drain', more)
  more()
}

test('an endless answer is read up to 64 KiB and is the fault of the proxy', async () => {
  let written = 0
  const endless = await proxy((_, response) => writeForEver(response, (bytes) => (written += bytes)))

  const answer = await newOrders().ask(endless, order)

  expect(answer).toEqual({ kind: 'faulty', message: `the answer exceeds ${answerBytesMax} bytes` })
  expect(written).toBeLessThan(bufferedBytesMax)
})

test('an answer of 64 KiB is read, one byte more is not', async () => {
  const text = JSON.stringify(outcome)
  const padded = (bytes: number) => text.padEnd(bytes)
  const fits = await proxy((_, response) => response.end(padded(answerBytesMax)))
  const exceeds = await proxy((_, response) => response.end(padded(answerBytesMax + 1)))
  const orders = newOrders()

  expect(await orders.ask(fits, order)).toEqual({ kind: 'answered', outcome })
  expect(await orders.ask(exceeds, order)).toMatchObject({ kind: 'faulty' })
})

test('endless headers are the fault of the proxy', async () => {
  const server = createTcpServer((socket) => {
    socket.on('error', () => undefined)
    socket.write('HTTP/1.1 200 OK\r\n')
    const more = (): void => {
      while (!socket.destroyed && socket.write(`x: ${'y'.repeat(1000)}\r\n`)) continue
    }
    socket.on('drain', more)
    more()
  })

  const answer = await newOrders().ask(target(await listening(server)), order)

  expect(answer).toEqual({ kind: 'faulty', message: 'the headers of the answer exceed 16384 bytes' })
})

test('an answer that is not HTTP is the fault of the proxy', async () => {
  const server = createTcpServer((socket) => void socket.on('error', () => undefined).end('N'))

  const answer = await newOrders().ask(target(await listening(server)), order)

  expect(answer).toEqual({ kind: 'faulty', message: 'the answer is not HTTP' })
})

test('a redirect is not followed', async () => {
  let requests = 0
  const elsewhere = await proxy((_, response) => {
    requests += 1
    response.end(JSON.stringify(outcome))
  })
  const redirecting = await proxy((_, response) =>
    response.writeHead(307, { location: `${elsewhere.hint_url}/v1/order` }).end(),
  )

  const answer = await newOrders().ask(redirecting, order)

  expect(answer).toEqual({ kind: 'faulty', message: 'the answer has status 307' })
  expect(requests).toBe(0)
})

test.for(['{', '{"known": 1}', '', 'null'])('%j is not the outcome of an operation', async (text) => {
  const other = await proxy((_, response) => response.end(text))

  const answer = await newOrders().ask(other, order)

  expect(answer).toEqual({ kind: 'faulty', message: 'the answer is not the outcome of an operation' })
})

test('an answer that trickles ends when its time is up', async () => {
  const trickling = await proxy((_, response) => {
    const timer = setInterval(() => response.write(' '), 50)
    response.on('close', () => clearInterval(timer))
  })

  const answer = await newOrders(300).ask(trickling, order)

  expect(answer).toEqual({ kind: 'faulty', message: 'the answer did not end within 300 ms' })
})
