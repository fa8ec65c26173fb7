import { chmodSync } from 'node:fs'
import { listenerKey, tcpListener, unixPath } from '../../io/socket-address.ts'
import { identityOf, removeFile } from '../../io/socket-file.ts'
import type { Listening } from '../engine-thread.ts'
import { closeFd } from '../libc.ts'
import { reasonOf, type Log } from '../log.ts'

/** Listening sockets as handed from one process to the next. */
export interface OpenListeners {
  readonly host: string
  readonly port: number
  readonly fd: number
  readonly unix: UnixListener | null
}

interface UnixListener {
  readonly dir: string
  /** Identity of its file when it was opened. */
  readonly file: string | null
  readonly fd: number
}

/**
 * The listeners of a process: they outlive the threads that accept from them, and the process when another one takes
 * over. A descriptor is closed once; a socket file is removed by the process that owns it, if it is still that file.
 */
export class Listeners {
  #ownsFile = true
  readonly #listening: Listening
  /** Open descriptors by key. */
  readonly #fds: Map<string, number>
  readonly #files: ReadonlyMap<string, string | null>

  /** `listening` is an engine's. */
  constructor(listening: Listening) {
    this.#listening = listening
    this.#fds = new Map(Object.entries(listening.fds ?? {}))
    const paths = [...this.#fds.keys()].filter((key) => key !== tcpListener)
    this.#files = new Map(paths.map((path) => [path, identityOf(path)]))
  }

  /** Listeners for clients; undefined when closed. */
  get open(): OpenListeners | undefined {
    const { host, port } = this.#listening
    const fd = this.#fds.get(tcpListener)
    return fd === undefined ? undefined : { host, port, fd, unix: this.#openUnix }
  }

  get #openUnix(): UnixListener | null {
    const { port, unix } = this.#listening
    if (unix === undefined) return null
    const path = unixPath({ host: unix.dir, port })
    const fd = this.#fds.get(path)
    return fd === undefined ? null : { dir: unix.dir, file: this.#files.get(path) ?? null, fd }
  }

  /** Another process serves, or may come to serve, the Unix socket: this one never removes its file. */
  disownFile(): void {
    this.#ownsFile = false
  }

  /** No other process has come to serve the Unix socket. */
  ownFile(): void {
    this.#ownsFile = true
  }

  /** This process replaces the owner of these listeners: it owns the socket file, even if it does not serve it. */
  succeed({ port, unix }: OpenListeners): void {
    this.#ownsFile = true
    if (unix === null) return
    const path = unixPath({ host: unix.dir, port })
    if (!this.#fds.has(path)) removeFile(path, unix.file)
  }

  /** Stops accepting clients. Cancel requests still arrive at the cancel socket. */
  closeToClients(): void {
    const { cancelSocket } = this.#listening
    const kept = cancelSocket === undefined ? null : listenerKey(cancelSocket)
    for (const key of this.#fds.keys()) if (key !== kept) this.#close(key, this.#ownsFile)
  }

  close(): void {
    this.closeToClients()
    for (const key of this.#fds.keys()) this.#close(key, true)
  }

  #close(key: string, removes: boolean): void {
    const fd = this.#fds.get(key)
    if (fd === undefined) return
    this.#fds.delete(key)
    if (removes && key !== tcpListener) removeFile(key, this.#files.get(key) ?? null)
    closeFd(fd)
  }
}

/** What to listen on, with taken-over descriptors where they match the settings. The others are closed. */
export function inherit(taken: OpenListeners, wanted: Listening, log: Log): Listening {
  const fds: Record<string, number> = {}
  const isWanted = taken.host === wanted.host && (wanted.port === 0 || taken.port === wanted.port)
  if (isWanted) fds[tcpListener] = taken.fd
  else {
    log('info', 'the listener taken over has another address', { host: taken.host, port: taken.port })
    closeFd(taken.fd)
  }
  const { unix, port } = taken
  if (unix === null) return { ...wanted, fds }
  const path = unixPath({ host: unix.dir, port })
  // Without its file no client reaches it.
  const isThere = unix.file !== null && identityOf(path) === unix.file
  if (isWanted && wanted.unix?.dir === unix.dir && isThere) {
    fds[path] = unix.fd
    allow(path, wanted.unix.mode, log)
  } else {
    log('info', 'the Unix socket taken over has another path', { path, is_there: isThere })
    closeFd(unix.fd)
  }
  return { ...wanted, fds }
}

function allow(path: string, mode: number, log: Log): void {
  try {
    chmodSync(path, mode)
  } catch (error) {
    log('error', 'the Unix socket keeps its former mode', { path, reason: reasonOf(error) })
  }
}
