/**
 * A process full of clients on raw sockets: each asks, rests, and now and then leaves and comes again, until it is told
 * to stop. Started by soak.test.ts.
 */
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { setTimeout as after } from 'node:timers/promises'
import { bind, execute, parse, query, startup, sync, terminate } from '../support/frontend-messages.ts'
import { Random } from '../sim/random.ts'

export interface Job {
  readonly port: number
  readonly clients: number
  /** Mean pause of a client between two things it does. */
  readonly restMs: number
  /** Of a hundred things a client does, how many are to leave and to come again. */
  readonly leavesPercent: number
  readonly seed: number
}

export interface Tally {
  readonly connections: number
  /** Queries of whose answer the end was seen; more may have been begun. */
  readonly answered: number
  readonly sent: number
  /** What went wrong, the first few. */
  readonly failures: readonly string[]
}

export type ToClients = { readonly start: Job } | { readonly stop: true }
export type FromClients = { readonly ready: true } | { readonly tally: Tally }

const failuresMax = 20
const tally = { connections: 0, answered: 0, sent: 0, failures: [] as string[] }
/** Set when the test says so. */
const state = { stopping: false }

/** One connection; frames are only counted and their tags kept. */
class Connection {
  readonly socket: Socket
  #head: Buffer = Buffer.alloc(0)
  #tags = ''
  #wanted = 0
  #done: ((tags: string) => void) | null = null
  #sqlstates: string[] = []
  #gone = false

  constructor(port: number) {
    this.socket = connect({ host: '127.0.0.1', port, noDelay: true })
    this.socket.on('data', (bytes) => this.#receive(bytes))
    this.socket.on('error', () => this.#ended())
    this.socket.on('close', () => this.#ended())
  }

  get sqlstates(): readonly string[] {
    return this.#sqlstates
  }

  /** Sends, and gives the tags up to the `ready`th ReadyForQuery; "" when the connection ended before. */
  async ask(bytes: readonly Uint8Array[], ready: number): Promise<string> {
    if (this.#gone) return ''
    this.#tags = ''
    this.#sqlstates = []
    this.#wanted = ready
    this.socket.write(Buffer.concat(bytes))
    return await new Promise((resolve) => (this.#done = resolve))
  }

  #ended(): void {
    this.#gone = true
    const done = this.#done
    this.#done = null
    done?.('')
  }

  #receive(chunk: Buffer): void {
    const bytes = this.#head.length === 0 ? chunk : Buffer.concat([this.#head, chunk])
    let at = 0
    while (bytes.length - at >= 5) {
      const next = at + 1 + bytes.readInt32BE(at + 1)
      if (next > bytes.length) break
      const tag = String.fromCharCode(bytes[at] as number)
      this.#tags += tag
      if (tag === 'E') this.#sqlstates.push(/C(.{5})\0/.exec(bytes.toString('latin1', at + 5, next))?.[1] ?? '')
      if (tag === 'Z') this.#wanted--
      at = next
    }
    this.#head = bytes.subarray(at)
    if (this.#wanted > 0) return
    const done = this.#done
    this.#done = null
    done?.(this.#tags)
  }
}

interface Work {
  readonly send: readonly Uint8Array[]
  readonly ready: number
  readonly queries: number
  readonly tags: string
  readonly sqlstates?: readonly string[]
}

const simple: Work = { send: [query('SELECT 1')], ready: 1, queries: 1, tags: 'TDCZ' }
const transaction: Work = {
  send: [query('BEGIN'), query('SELECT 2'), query('COMMIT')],
  ready: 3,
  queries: 3,
  tags: 'CZTDCZCZ',
}
const failure: Work = { send: [query('SELECT 1/0')], ready: 1, queries: 1, tags: 'EZ', sqlstates: ['22012'] }
const failedTransaction: Work = {
  send: [query('BEGIN'), query('SELECT 1/0'), query('ROLLBACK')],
  ready: 3,
  queries: 3,
  tags: 'CZEZCZ',
  sqlstates: ['22012'],
}
const many: Work = {
  send: [query('SELECT generate_series(1, 500)')],
  ready: 1,
  queries: 1,
  tags: `T${'D'.repeat(500)}CZ`,
}
const prepare = (n: number): Work => ({
  send: [parse(`s${n}`, `SELECT $1::text, ${n}`), bind('', `s${n}`, ['x']), execute(''), sync],
  ready: 1,
  queries: 1,
  tags: '12DCZ',
})
const useAgain = (n: number): Work => ({
  send: [bind('', `s${n}`, ['y']), execute(''), sync],
  ready: 1,
  queries: 1,
  tags: '2DCZ',
})

async function live({ port, restMs, leavesPercent }: Job, random: Random): Promise<void> {
  let connection: Connection | null = null
  let prepared: number[] = []
  while (!state.stopping) {
    if (connection === null) {
      connection = await login(port)
      prepared = []
      if (connection === null) return
      continue
    }
    await after(random.integer(0, 2 * restMs))
    if (random.chance(leavesPercent / 100)) {
      await leave(connection, random)
      connection = null
      continue
    }
    const work = choose(random, prepared)
    tally.sent += work.queries
    const tags = await connection.ask(work.send, work.ready)
    const sqlstates = connection.sqlstates.join()
    if (tags !== work.tags || sqlstates !== (work.sqlstates ?? []).join()) {
      fail(`wanted ${work.tags.slice(0, 20)} ${work.sqlstates?.join() ?? ''}, got ${tags.slice(0, 20)} ${sqlstates}`)
      connection.socket.destroy()
      connection = null
      continue
    }
    tally.answered += work.queries
  }
  if (connection !== null) await leave(connection, random)
}

function choose(random: Random, prepared: number[]): Work {
  switch (
    random.weighted({ simple: 4, transaction: 2, failure: 1, failedTransaction: 1, many: 1, prepare: 2, again: 3 })
  ) {
    case 'transaction':
      return transaction
    case 'failure':
      return failure
    case 'failedTransaction':
      return failedTransaction
    case 'many':
      return many
    case 'prepare': {
      const n = random.integer(0, 30)
      if (prepared.includes(n)) return useAgain(n)
      prepared.push(n)
      return prepare(n)
    }
    case 'again':
      return prepared.length === 0 ? simple : useAgain(prepared[random.integer(0, prepared.length - 1)] as number)
    default:
      return simple
  }
}

async function login(port: number): Promise<Connection | null> {
  const connection = new Connection(port)
  const tags = await connection.ask([startup({ user: 'app', database: 'app' })], 1)
  if (/^RS+KZ$/.test(tags)) {
    tally.connections++
    return connection
  }
  fail(`login: ${tags} ${connection.sqlstates.join()}`)
  return null
}

/** In order, without a word, within a transaction, or in the middle of a query. */
async function leave(connection: Connection, random: Random): Promise<void> {
  const { socket } = connection
  const how = state.stopping ? 'terminate' : random.weighted({ terminate: 30, reset: 15, inside: 1, during: 1 })
  if (how === 'inside' || how === 'during') {
    tally.sent++
    if ((await connection.ask([query('BEGIN')], 1)) === 'CZ') tally.answered++
    else fail('BEGIN before leaving')
  }
  if (how === 'during') {
    tally.sent++
    void connection.ask([query('SELECT pg_sleep(0.2)')], 1)
    await after(10)
  }
  if (how === 'terminate') socket.end(terminate)
  else if (how === 'reset') socket.resetAndDestroy()
  else socket.destroy()
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve))
}

function fail(what: string): void {
  if (tally.failures.length < failuresMax) tally.failures.push(what)
}

function say(message: FromClients): void {
  process.send?.(message)
}

process.on('message', (message: ToClients) => {
  if ('stop' in message) {
    state.stopping = true
    return
  }
  const { start } = message
  const lives = Array.from({ length: start.clients }, async (_, i) => await live(start, new Random(start.seed + i)))
  void (async () => {
    await Promise.all(lives)
    say({ tally })
    process.disconnect()
  })()
})
say({ ready: true })
