/** Control as a Node process: one SQLite file, one HTTP server, timers and outgoing hints. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createAdaptorServer } from '@hono/node-server'
import type { Network } from '../shared/config/network.ts'
import { createApp } from './app.ts'
import { createSealing } from './domain/sealing.ts'
import type { Sealing } from './domain/sealing.ts'
import { readNeededEpoch } from './fleet-proxies.ts'
import type { ControlHost } from './host.ts'
import { NodeHints } from './node/hints.ts'
import { NodeMetrics } from './node/metrics.ts'
import { NodeOperations } from './node/operations.ts'
import { NodeParking } from './node/parking.ts'
import { NodePresence } from './node/presence.ts'
import type { ClaimAbove } from './node/presence.ts'
import { keyFromFile, parseSecretKey } from './node/secret-key.ts'
import { lockFolder, openSqliteStore, storeFile } from './node/sqlite-store.ts'
import { raiseEpoch as raiseEpochOf, readEpoch, ensureKeyCheck } from './store/control-row.ts'
import { StoreUnusable } from './store/port.ts'
import type { HintTarget } from './store/proxies.ts'
import type { Store } from './store/store.ts'

export interface ControlOptions {
  /** Address to listen on; 127.0.0.1 by default. */
  readonly host?: string
  /** 0 chooses a free port. */
  readonly port: number
  /** Directory of the store (control.db) and, without `secretKey`, of the key (secret.key); created if missing. */
  readonly data: string
  readonly operatorToken: string
  /** FLOTILLA_SECRET_KEY: 32 bytes in base64 or hex. Without it the key is a file in the data directory. */
  readonly secretKey?: string | undefined
  /**
   * Where control sends requests to proxies. Unless given, everywhere but to the addresses that are always forbidden, so
   * also to loopback and private networks.
   */
  readonly proxyNetworks?: readonly Network[] | undefined
  /** What goes wrong while it runs; on standard error as JSON lines unless given. */
  readonly log?: (line: LogLine) => void
}

export interface LogLine {
  readonly level: 'info' | 'error'
  readonly message: string
  readonly error?: string
}

export interface RunningControl {
  /** The actual port, also if 0 was given. */
  readonly port: number
  /** Finishes requests in progress, ends parked requests, and flushes what is in memory. */
  close(): Promise<void>
}

/** Why control could not start, in one line for the operator. */
export class ControlCannotStart extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'ControlCannotStart'
  }
}

const operatorTokenLengthMin = 8
const flushPresenceMs = 10_000
/** Longer than a poll interval, so that proxies reuse their connections. */
const keepAliveTimeoutMs = 75_000
/** Requests in progress are aborted after this time at close. */
const closeTimeoutMs = 5000
const sweepMs = 20

/** Throws ControlCannotStart. */
export async function startControl(options: ControlOptions): Promise<RunningControl> {
  const log = options.log ?? logToStandardError
  if (options.operatorToken.length < operatorTokenLengthMin) {
    throw new ControlCannotStart(`the operator's token must have at least ${operatorTokenLengthMin} characters`)
  }
  const opened = await openAll(options)
  const { store, sealing } = opened

  const presence = new NodePresence(Date.now, (claim) => log({ level: 'error', message: behindText(claim) }))
  const parking = new NodeParking()
  const metrics = new NodeMetrics()
  const secretOf = ({ fleet, proxy, boot }: HintTarget): string => sealing.hintSecret(fleet, proxy, boot)
  const { proxyNetworks } = options
  const toProxies = { nowMs: Date.now, secretOf, proxyNetworks }
  const operations = new NodeOperations(toProxies)
  const hints = new NodeHints({
    ...toProxies,
    onResult: (result) => metrics.hint(result),
    onFault: ({ fleet, proxy }, error) =>
      log({ level: 'error', message: `hint to proxy ${proxy} of fleet ${fleet} failed`, error }),
  })
  const logError: ControlHost['logError'] = (message, error) =>
    log({ level: 'error', message, error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  const app = createApp({
    store,
    sealing,
    presence,
    parsed: new Map(),
    parking,
    metrics,
    hints,
    operations,
    logError,
    nowMs: Date.now,
    random: randomBytes,
    operatorToken: options.operatorToken,
    proxyNetworks,
  })

  const flushing = flushAtIntervals(async () => {
    await presence.flush(store)
  }, logError)

  // createAdaptorServer creates an HTTP/1.1 server by default.
  const server = createAdaptorServer({ fetch: app.fetch }) as Server
  server.keepAliveTimeout = keepAliveTimeoutMs
  const release = async (): Promise<void> => {
    flushing.stop()
    await hints.close()
    await operations.close()
    await flushing.flush()
    await opened.close()
  }
  try {
    await listen(server, options.host ?? '127.0.0.1', options.port)
  } catch (error) {
    await release()
    throw error
  }
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      parking.close()
      await stop(server)
      await release()
    },
  }
}

function behindText({ fleet, proxy, position: { epoch, version } }: ClaimAbove): string {
  return (
    `the store is behind its proxies: ${proxy} of fleet ${fleet} is at version ${version} of epoch ${epoch}; ` +
    'if the store was restored from a backup, run flotilla epoch raise'
  )
}

/** Stores when proxies were last seen: at intervals, and when `flush` is called. */
function flushAtIntervals(store: () => Promise<void>, logError: ControlHost['logError']) {
  const flush = async (): Promise<void> => {
    try {
      await store()
    } catch (error) {
      logError('could not store when proxies were last seen', error)
    }
  }
  const timer = setInterval(() => void flush(), flushPresenceMs).unref()
  return { flush, stop: () => clearInterval(timer) }
}

/**
 * Call once after the store was restored from a backup: proxies accept the older versions of the backup only with a
 * higher epoch. It is above what the store knows of its proxies. Returns the new epoch. Throws ControlCannotStart.
 */
export async function raiseEpoch(data: string): Promise<number> {
  // A misspelt directory must not become a new, empty store.
  if (!existsSync(join(data, storeFile))) {
    throw new ControlCannotStart(`${data} contains no ${storeFile}: specify control's data directory with --data`)
  }
  const store = await reported(openSqliteStore(data, new Date()))
  try {
    const from = await readEpoch(store)
    const { needed } = await readNeededEpoch(store, from)
    const to = needed ?? from + 1
    await raiseEpochOf(store, { from, to })
    return to
  } finally {
    await store.close()
  }
}

interface Opened {
  readonly store: Store
  readonly sealing: Sealing
  close(): Promise<void>
}

async function openAll(options: ControlOptions): Promise<Opened> {
  let unlock: (() => void) | undefined
  let store: Store | undefined
  const close = async (): Promise<void> => {
    await store?.close()
    unlock?.()
  }
  try {
    // Before the store is migrated: another control may be using it.
    unlock = lockFolder(options.data)
    store = await openSqliteStore(options.data, new Date())
    const key =
      options.secretKey === undefined
        ? keyFromFile(join(options.data, 'secret.key'))
        : parseSecretKey(options.secretKey, 'FLOTILLA_SECRET_KEY')
    const sealing = createSealing(key, randomBytes)
    if ((await ensureKeyCheck(store, sealing.keyCheck)) !== sealing.keyCheck) {
      throw new StoreUnusable(`the secrets in ${options.data} were sealed with another secret key`)
    }
    return { store, sealing, close }
  } catch (error) {
    await close()
    throw asCannotStart(error)
  }
}

async function reported<Value>(promise: Promise<Value>): Promise<Value> {
  try {
    return await promise
  } catch (error) {
    throw asCannotStart(error)
  }
}

function asCannotStart(error: unknown): unknown {
  return error instanceof StoreUnusable ? new ControlCannotStart(error.message, { cause: error }) : error
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message
      reject(new ControlCannotStart(`could not listen on ${host} port ${port}: ${reason}`, { cause: error }))
    })
    server.listen(port, host, resolve)
  })
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    // A kept-alive connection becomes idle when its last response has left, which may be after the close.
    const sweep = setInterval(() => server.closeIdleConnections(), sweepMs)
    const cut = setTimeout(() => server.closeAllConnections(), closeTimeoutMs)
    server.close(() => {
      clearInterval(sweep)
      clearTimeout(cut)
      resolve()
    })
  })
}

function logToStandardError(line: LogLine): void {
  process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), component: 'control', ...line })}\n`)
}
