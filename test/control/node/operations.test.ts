import type { LookupAddress, LookupAllOptions, lookup as dnsLookup } from 'node:dns'
import { createServer } from 'node:http'
import type { RequestListener, ServerResponse } from 'node:http'
import { createServer as createTcpServer, isIP } from 'node:net'
import type { AddressInfo, Server } from 'node:net'
import { expect, test } from 'vitest'
import { NodeOperations } from '../../../control/node/operations.ts'
import { answerBytesMax } from '../../../control/node/proxy-requests.ts'
import type { ProxySurroundings } from '../../../control/node/proxy-requests.ts'
import type { HintTarget } from '../../../control/store/proxies.ts'
import { parseNetwork } from '../../../shared/registered-address.ts'
import type { OperationRequest } from '../../../shared/wire.ts'
import { atEndOfFile } from '../../support/cleanup.ts'

const request: OperationRequest = { fleet: 'demo', operation: 'pause', pool: 'app' }
const outcome = { known: true, paused: true, servers: 2 }
/** More than what sockets and HTTP parsers hold, much less than what arrives within the time limit of an operation. */
const bufferedBytesMax = 32 * 1024 * 1024

function newOperations({
  timeoutMs,
  ...around
}: { timeoutMs?: number } & Partial<ProxySurroundings> = {}): NodeOperations {
  const secret = `whsec_${Buffer.alloc(32).toString('base64')}`
  const operations = new NodeOperations({ nowMs: Date.now, secretOf: () => secret, ...around }, timeoutMs)
  atEndOfFile(async () => await operations.close())
  return operations
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

  const answer = await newOperations().send(endless, request)

  expect(answer).toEqual({ kind: 'faulty', message: `the answer exceeds ${answerBytesMax} bytes` })
  expect(written).toBeLessThan(bufferedBytesMax)
})

test('an answer of 64 KiB is read, one byte more is not', async () => {
  const text = JSON.stringify(outcome)
  const padded = (bytes: number) => text.padEnd(bytes)
  const fits = await proxy((_, response) => response.end(padded(answerBytesMax)))
  const exceeds = await proxy((_, response) => response.end(padded(answerBytesMax + 1)))
  const operations = newOperations()

  expect(await operations.send(fits, request)).toEqual({ kind: 'answered', outcome })
  expect(await operations.send(exceeds, request)).toMatchObject({ kind: 'faulty' })
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

  const answer = await newOperations().send(target(await listening(server)), request)

  expect(answer).toEqual({ kind: 'faulty', message: 'the headers of the answer exceed 16384 bytes' })
})

test('an answer that is not HTTP is the fault of the proxy', async () => {
  const server = createTcpServer((socket) => void socket.on('error', () => undefined).end('N'))

  const answer = await newOperations().send(target(await listening(server)), request)

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

  const answer = await newOperations().send(redirecting, request)

  expect(answer).toEqual({ kind: 'faulty', message: 'the answer has status 307' })
  expect(requests).toBe(0)
})

test.for(['{', '{"known": 1}', '', 'null'])('%j is not the outcome of an operation', async (text) => {
  const other = await proxy((_, response) => response.end(text))

  const answer = await newOperations().send(other, request)

  expect(answer).toEqual({ kind: 'faulty', message: 'the answer is not the outcome of an operation' })
})

test('an answer that trickles ends when its time is up', async () => {
  const trickling = await proxy((_, response) => {
    const timer = setInterval(() => response.write(' '), 50)
    response.on('close', () => clearInterval(timer))
  })

  const answer = await newOperations({ timeoutMs: 300 }).send(trickling, request)

  expect(answer).toEqual({ kind: 'faulty', message: 'the answer did not end within 300 ms' })
})

/** What names resolve to; a name with several lists answers each in turn. */
function lookupOf(answers: Record<string, string[][]>): { lookup: NonNullable<ProxySurroundings['lookup']> } {
  const lookup = (name: string, _: LookupAllOptions, callback: (error: null, found: LookupAddress[]) => void): void => {
    const [addresses = []] = answers[name]!.length > 1 ? answers[name]!.splice(0, 1) : answers[name]!
    callback(
      null,
      addresses.map((address) => ({ address, family: isIP(address) })),
    )
  }
  // Only the form with `all` is called.
  return { lookup: lookup as unknown as typeof dnsLookup }
}

async function answering(): Promise<HintTarget> {
  return await proxy((_, response) => response.end(JSON.stringify(outcome)))
}

function renamed(target: HintTarget, host: string): HintTarget {
  return { ...target, hint_url: target.hint_url.replace('127.0.0.1', host) }
}

test('a name is connected to only at the addresses that may be used', async () => {
  const asked = await answering()
  const operations = newOperations(
    lookupOf({
      'mixed.test': [['169.254.169.254', '127.0.0.1']],
      'metadata.test': [['169.254.169.254', 'fe80::1']],
      'mapped.test': [['::ffff:169.254.169.254']],
    }),
  )

  const answers = await Promise.all(
    ['mixed.test', 'metadata.test', 'mapped.test'].map(
      async (name) => await operations.send(renamed(asked, name), request),
    ),
  )

  const message = (name: string, faults: string) => `${name} resolves to no address that may be used: ${faults}`
  expect(answers).toEqual([
    { kind: 'answered', outcome },
    {
      kind: 'faulty',
      message: message('metadata.test', '169.254.169.254 is a link-local address, fe80::1 is a link-local address'),
    },
    { kind: 'faulty', message: message('mapped.test', '::ffff:169.254.169.254 is a link-local address') },
  ])
})

test('a name that resolves to a forbidden address the next time is not connected to there', async () => {
  const asked = await proxy((_, response) => response.setHeader('connection', 'close').end(JSON.stringify(outcome)))
  const operations = newOperations(lookupOf({ 'rebinding.test': [['127.0.0.1'], ['169.254.169.254']] }))
  const rebinding = renamed(asked, 'rebinding.test')

  const [first, second] = [await operations.send(rebinding, request), await operations.send(rebinding, request)]

  expect(first).toEqual({ kind: 'answered', outcome })
  expect(second).toMatchObject({ kind: 'faulty' })
})

test('with networks given, nothing outside of them is connected to', async () => {
  const asked = await answering()
  const networks = (text: string) => ({ proxyNetworks: [parseNetwork(text)!] })
  const resolving = lookupOf({ 'proxy.test': [['127.0.0.1']] })

  const inside = await newOperations({ ...networks('127.0.0.0/8'), ...resolving }).send(
    renamed(asked, 'proxy.test'),
    request,
  )
  const outside = await newOperations({ ...networks('10.0.0.0/8'), ...resolving }).send(
    renamed(asked, 'proxy.test'),
    request,
  )
  const literal = await newOperations(networks('10.0.0.0/8')).send(asked, request)

  expect(inside).toEqual({ kind: 'answered', outcome })
  const fault = '127.0.0.1 is outside the networks that the operator allows'
  expect(outside).toEqual({ kind: 'faulty', message: `proxy.test resolves to no address that may be used: ${fault}` })
  expect(literal).toEqual({ kind: 'faulty', message: `hint_url: ${fault}` })
})
