/** Between a proxy and control: passes requests on, and can hold polls back or answer them with a former manifest. */
import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as after } from 'node:timers/promises'
import { atEndOfFile } from '../../support/cleanup.ts'

interface Answered {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

export class Gate {
  /** The last manifest that was passed on. */
  manifest: Answered | undefined
  /** Answers every poll. */
  replay: Answered | null = null
  replayed = 0
  /** Delay of pool bodies. */
  bodiesMs = 0
  /** Number of polls that are held back. */
  held = 0
  readonly #target: string
  readonly #polls = new Set<AbortController>()
  #hold: PromiseWithResolvers<void> | null = null
  #port = 0

  private constructor(target: string) {
    this.#target = target
  }

  static async open(target: string): Promise<Gate> {
    const gate = new Gate(target)
    const server = createServer((request, response) => void gate.#pass(request, response))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    gate.#port = (server.address() as AddressInfo).port
    atEndOfFile(() => {
      server.close()
      server.closeAllConnections()
    })
    return gate
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Ends polls under way, and holds later ones back until this is called. */
  hold(): () => void {
    const hold = Promise.withResolvers<void>()
    this.#hold = hold
    for (const poll of this.#polls) poll.abort()
    return () => {
      this.#hold = null
      hold.resolve()
    }
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? ''
    try {
      const answer = path.endsWith('/manifest') ? await this.#poll(request) : await this.#forward(request)
      response.writeHead(answer.status, answer.headers)
      response.end(answer.body)
    } catch {
      // As a network that fails.
      request.socket.destroy()
    }
  }

  async #poll(request: IncomingMessage): Promise<Answered> {
    if (this.#hold !== null) {
      this.held += 1
      await this.#hold.promise
    }
    if (this.replay !== null) {
      this.replayed += 1
      return this.replay
    }
    const poll = new AbortController()
    this.#polls.add(poll)
    try {
      const answer = await this.#forward(request, poll.signal)
      if (answer.status === 200) this.manifest = answer
      return answer
    } finally {
      this.#polls.delete(poll)
    }
  }

  async #forward(request: IncomingMessage, signal?: AbortSignal): Promise<Answered> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    if (request.url?.includes('/pools/') === true) await after(this.bodiesMs)
    const { method = 'GET', url = '' } = request
    const kept = ['authorization', 'content-type', 'if-none-match', 'prefer', 'flotilla-proxy']
    const headers = kept.flatMap((name) => (request.headers[name] === undefined ? [] : [[name, request.headers[name]]]))
    const answer = await fetch(`${this.#target}${url}`, {
      method,
      headers: Object.fromEntries(headers) as Record<string, string>,
      ...(method === 'POST' ? { body: Buffer.concat(chunks) } : {}),
      ...(signal === undefined ? {} : { signal }),
    })
    const told = ['content-type', 'etag', 'date', 'flotilla-asked']
    const passed = told.flatMap((name) => (answer.headers.get(name) === null ? [] : [[name, answer.headers.get(name)]]))
    return {
      status: answer.status,
      headers: Object.fromEntries(passed) as Record<string, string>,
      body: Buffer.from(await answer.arrayBuffer()),
    }
  }
}
