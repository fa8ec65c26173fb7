/**
 * An online restart: a proxy that starts takes the listening sockets of the one that runs, over a Unix socket. Both then
 * accept from the same queues of the kernel, so no connection is refused or lost between them.
 *
 *   new: connects ──► old: gives up state folder, HTTP and polling, sends the listeners' descriptors and addresses
 *   new: serves clients, says "ready" ──► old: accepts nothing any more, and drains
 *
 * Should the new one end before it is ready, the old one takes everything back.
 */
import { chmodSync, rmSync } from 'node:fs'
import { createServer, Socket, type Server } from 'node:net'
import { setTimeout as after } from 'node:timers/promises'
import { z } from 'zod'
import { closeFd, connectUnix, receiveDescriptors, sendDescriptors, type Descriptors } from '../libc.ts'
import type { OpenListeners } from './listeners.ts'
import { privateFileMode } from '../atomic-file.ts'
import { reasonOf, type Log } from '../log.ts'

/** How long the new one waits for the old one to give up what only one of them may have. */
const answerMsMax = 20_000
/** How often it looks for the answer: a stream of Node's would drop the descriptors that come with it. */
const lookEveryMs = 10
/** How long the old one waits for the new one to serve clients. */
const readyMsMax = 60_000
const ready = 'ready\n'

/** What a proxy that runs has given to one that starts. */
export interface Taken {
  readonly listeners: OpenListeners
  /** This process serves clients. */
  ready(): void
  /** It does not come to that: the other goes on at once. */
  giveUp(): void
  /** Called when the other has taken everything back because this took too long. */
  onLost(lost: () => void): void
}

/** Their descriptors come in this order: TCP, Unix. */
const addressSchema = z.object({
  host: z.string(),
  port: z.number(),
  unix: z.object({ dir: z.string(), file: z.string().nullable() }).nullable(),
})

/** Null when nobody runs that could be followed, or `signal` says that nobody will follow. Rejects when it fails. */
export async function takeOver(path: string, signal: AbortSignal): Promise<Taken | null> {
  const fd = connectUnix(path)
  if (fd === null) return null
  const received = await answerTo(fd, signal)
  if (received === null) {
    closeFd(fd)
    if (signal.aborted) return null
    throw new Error(`the proxy behind ${path} did not hand over its listener`)
  }
  const { host, port, unix } = addressSchema.parse(JSON.parse(received.text))
  const [tcpFd, unixFd] = received.fds as [number, number?]
  const socket = new Socket({ fd })
  let isOver = false
  let lost: (() => void) | undefined
  socket.on('error', () => undefined)
  socket.on('close', () => {
    if (!isOver) lost?.()
  })
  socket.resume()
  return {
    listeners: { host, port, fd: tcpFd, unix: unix === null || unixFd === undefined ? null : { ...unix, fd: unixFd } },
    ready() {
      isOver = true
      socket.end(ready)
    },
    giveUp() {
      isOver = true
      socket.destroy()
    },
    onLost(call) {
      lost = call
    },
  }
}

/** Null when it does not come. */
async function answerTo(fd: number, signal: AbortSignal): Promise<Descriptors | null> {
  const untilMs = performance.now() + answerMsMax
  while (!signal.aborted && performance.now() < untilMs) {
    const received = receiveDescriptors(fd)
    if (received !== undefined) return received
    await after(lookEveryMs)
  }
  return null
}

export interface HandoverOptions {
  readonly path: string
  readonly log: Log
  /** Gives up what only one process may have. Null when there is nothing to hand over yet. */
  readonly release: () => Promise<OpenListeners | null>
  /** The other process serves clients. */
  readonly done: () => void
  /** The other process has failed: what `release` gave up is this one's again. */
  readonly takeBack: () => Promise<void>
}

/** Waits for a process that wants to take over. */
export class Handover {
  readonly #options: HandoverOptions
  #server: Server | undefined

  constructor(options: HandoverOptions) {
    this.#options = options
  }

  /** Rejects when the path cannot be used. */
  async listen(): Promise<void> {
    const { path } = this.#options
    // What is there was left by a process that has ended: nobody answered.
    rmSync(path, { force: true })
    const server = createServer((socket) => void this.#asked(socket))
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    server.once('error', reject)
    // Whoever may connect gets the listener; so nobody else may, not even for a moment.
    const mask = process.umask(0o177)
    server.listen(path, resolve)
    process.umask(mask)
    await promise
    chmodSync(path, privateFileMode)
    this.#server = server
  }

  async close(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    const { promise, resolve } = Promise.withResolvers<void>()
    server.close(() => resolve())
    await promise
  }

  async #asked(socket: Socket): Promise<void> {
    const { log, release } = this.#options
    socket.on('error', () => undefined)
    // One successor at a time; the path is its own from now on. Closing waits for this very connection to end.
    if (this.#server === undefined) {
      socket.destroy()
      return
    }
    void this.close()
    log('info', 'another process takes over')
    const answer = this.#waitForReady(socket)
    try {
      const listeners = await release()
      if (listeners === null || !send(socket, listeners)) socket.destroy()
    } catch (error) {
      log('error', 'the listener could not be handed over', { reason: reasonOf(error) })
      socket.destroy()
    }
    if (await answer) {
      log('info', 'the other process serves clients')
      this.#options.done()
      return
    }
    log('error', 'the other process did not take over; this one goes on')
    await this.#options.takeBack()
    await this.listen()
  }

  async #waitForReady(socket: Socket): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>()
    let said = ''
    const limit = setTimeout(() => socket.destroy(), readyMsMax)
    socket.setEncoding('utf8')
    socket.on('data', (text: string) => {
      said = (said + text).slice(0, ready.length)
      if (said === ready) resolve(true)
    })
    socket.on('close', () => resolve(false))
    const isReady = await promise
    clearTimeout(limit)
    socket.destroy()
    return isReady
  }
}

function send(socket: Socket, { host, port, fd, unix }: OpenListeners): boolean {
  const address: z.input<typeof addressSchema> = {
    host,
    port,
    unix: unix === null ? null : { dir: unix.dir, file: unix.file },
  }
  const fds = unix === null ? [fd] : [fd, unix.fd]
  // libuv names the descriptor of a stream nowhere else.
  const { _handle: handle } = socket as unknown as { _handle: { readonly fd: number } | null }
  return handle !== null && sendDescriptors(handle.fd, JSON.stringify(address), fds)
}
