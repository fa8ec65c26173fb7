/**
 * A model of a PostgreSQL server on the simulated network. It is strict about what it accepts, takes time, obeys cancel
 * requests, can end sessions, crash and refuse logins, and knows the owner of every statement: another client's
 * statement inside a transaction, a pipeline or a copy fails the simulation.
 */
import { createHash } from 'node:crypto'

import type { Address } from '../../proxy/io/io.ts'
import {
  atomsOf,
  Backend,
  clientOf,
  Failure,
  isShared,
  ownerOf,
  ownStatement,
  reportedSettings,
  signature,
} from './backend.ts'
import type { Atom, Reply } from './backend.ts'
import { decodeRequest, encodeReply } from './codec.ts'
import { Peer } from './network.ts'
import type { End, Network } from './network.ts'
import type { Random } from './random.ts'
import type { Scheduled } from './schedule.ts'
import { mechanism, ScramServer, verifierOf } from './scram.ts'
import * as wire from './wire.ts'

/** What a server reports to the checker. */
export interface ServerChecker {
  /** Fails the simulation. */
  fail(text: string): never
  trace(text: string): void
  /** A statement of `owner` begins a transaction on a session. */
  began(owner: string, session: Session): void
  /** The statement of `owner` has changed the schema of the session's database. */
  altered(owner: string, database: string): void
  /** Number of changes of its schema so far. */
  schemaOf(database: string): number
  /** Whether a statement parsed at `schema` may be used for a client that was promised this. */
  isPromised(promise: string, database: string, schema: number): boolean
}

export interface PostgresRules {
  readonly auth: 'trust' | 'cleartext' | 'md5' | 'scram'
  /** Server users and their passwords. */
  readonly passwords: ReadonlyMap<string, string>
  /** Longest duration of a plain statement. */
  readonly workMsMax: number
  /** Most bytes of replies that are buffered before they are written. */
  readonly bufferBytesMax: number
}

export class Postgres {
  readonly network: Network
  readonly random: Random
  readonly checker: ServerChecker
  readonly address: Address
  readonly rules: PostgresRules
  readonly sessions = new Set<Session>()
  /** Every session that has ever logged in, by process id. */
  readonly #byPid = new Map<number, Session>()
  /** The FATAL error that new logins get, null when they succeed. */
  refusal: { readonly code: string; readonly text: string } | null = null

  constructor(network: Network, random: Random, checker: ServerChecker, address: Address, rules: PostgresRules) {
    this.network = network
    this.random = random
    this.checker = checker
    this.address = address
    this.rules = rules
    network.listen(address, (end) => {
      this.sessions.add(new Session(this, end))
    })
  }

  register(session: Session): { pid: number; secret: Buffer } {
    const pid = pidFirst + this.#byPid.size
    this.#byPid.set(pid, session)
    const secret = Buffer.alloc(4)
    this.random.fill(secret)
    return { pid, secret }
  }

  cancel(pid: number, secret: Buffer): void {
    const session = this.#byPid.get(pid)
    if (session === undefined) this.checker.fail(`a cancel request for process ${pid}, which never existed`)
    if (session.key?.secret.equals(secret) !== true) this.checker.fail('a cancel request with a wrong secret')
    session.cancel()
  }

  /** All sessions end at once, without an error message. */
  crash(): void {
    for (const session of this.sessions) session.crash()
  }
}

/** Text of notices that answer no statement. */
export const strayNotice = 'unprompted'

const pidFirst = 1000

/** What the generator of a session waits for. */
type Wait = { readonly for: 'bytes' } | { readonly for: 'time'; readonly ms: number }

type Conversation<Result> = Generator<Wait, Result, void>

/** One connection with its backend. */
export class Session {
  readonly server: Postgres
  readonly peer: Peer
  /** Number of its dial, which orders sessions and changes of configuration. */
  readonly serial: number
  user = ''
  database = ''
  key: { readonly pid: number; readonly secret: Buffer } | null = null
  backend = new Backend(new Map())
  /** The client whose transaction, pipeline or copy is open. */
  owner: string | null = null
  /** The owner has reset something, which the engine may have to set again before it goes on. */
  hasReset = false
  /** The client whose statement is running. */
  working: string | null = null
  ended = false
  /** A fault was injected, for which the engine is not responsible. */
  get faulted(): boolean {
    return this.#faulted || this.peer.end.wire.faulted
  }
  #faulted = false
  readonly #cutter = new wire.Cutter()
  readonly #conversation: Conversation<void>
  #waiting: Wait | null = null
  #timer: Scheduled | null = null
  #canceled = false
  #out: Buffer[] = []
  #outBytes = 0
  #reported = new Map<string, string>()
  /** For each statement, of its database when it was parsed. */
  readonly #schemas = new Map<string, number>()

  constructor(server: Postgres, end: End) {
    this.server = server
    this.serial = end.wire.serial
    this.peer = new Peer(end, {
      onBytes: (bytes) => {
        this.#cutter.push(bytes)
        if (this.#waiting?.for === 'bytes') this.#resume()
      },
      onEnd: () => this.#gone(),
    })
    this.#conversation = this.#talk()
    this.#resume()
  }

  get name(): string {
    return `${this.server.address.host}/${this.database}/${this.user}#${this.key?.pid ?? '?'}`
  }

  /** Effective only while a statement runs, as on a real server. */
  cancel(): void {
    this.server.checker.trace(`${this.name} is canceled, working for ${this.working ?? 'no client'}`)
    if (this.#waiting?.for === 'time' && this.working !== null) {
      this.#canceled = true
      this.#timer?.cancel()
      this.#resume()
    } else if (this.backend.copying) {
      this.#canceled = true
    }
  }

  terminate(code: string, text: string): void {
    if (this.ended) return
    this.#faulted = true
    this.server.checker.trace(`${this.name} is terminated with ${code}`)
    this.#write(wire.errorMessage('FATAL', code, text))
    this.#flush()
    this.peer.finish()
    this.#gone()
  }

  close(): void {
    this.#faulted = true
    this.peer.finish()
    this.#gone()
  }

  /** A notice that answers no statement; it may come between any two messages. */
  notice(): void {
    if (this.ended) return
    this.#write(wire.noticeMessage(strayNotice))
    this.#flush()
  }

  crash(): void {
    this.#faulted = true
    this.peer.reset()
    this.#gone()
  }

  #gone(): void {
    if (this.ended) return
    this.ended = true
    this.#timer?.cancel()
    this.server.sessions.delete(this)
    this.server.checker.trace(`${this.name} ended`)
  }

  #resume(): void {
    if (this.ended) return
    this.#waiting = null
    const step = this.#conversation.next()
    if (this.ended) return
    if (step.done === true) {
      this.#flush()
      this.peer.finish()
      this.#gone()
      return
    }
    this.#waiting = step.value
    if (step.value.for === 'time') {
      this.#timer = this.server.network.schedule.after(step.value.ms, () => this.#resume())
    }
  }

  // The conversation

  *#talk(): Conversation<void> {
    if (!(yield* this.#login())) return
    for (;;) {
      const message = yield* this.#next()
      const request =
        decodeRequest(message) ?? this.server.checker.fail(`${this.name} got "${message.tag}", which is no request`)
      if (request.kind === 'terminate') {
        if (this.#cutter.pending > 0) this.server.checker.fail(`${this.name} got something after Terminate`)
        return
      }
      if (request.kind === 'flush' && !this.backend.copying) this.#flush()
      for (const atom of atomsOf(request)) yield* this.#work(atom)
    }
  }

  *#login(): Conversation<boolean> {
    const { checker, rules, random } = this.server
    let packet = yield* this.#nextStartup()
    if (packet.readInt32BE(0) === wire.sslRequestCode) {
      this.peer.write(Buffer.from('N'))
      packet = yield* this.#nextStartup()
    }
    const code = packet.readInt32BE(0)
    if (code === wire.cancelRequestCode) {
      yield { for: 'time', ms: random.next() * 5 }
      this.server.cancel(packet.readInt32BE(4), packet.subarray(8))
      return false
    }
    if (code >>> 16 !== 3) checker.fail(`a startup packet of protocol ${code}`)
    const startup = new Map<string, string>()
    const strings = wire.splitStrings(packet.subarray(4))
    for (let at = 0; at + 1 < strings.length; at += 2) startup.set(strings[at] ?? '', strings[at + 1] ?? '')
    this.user = startup.get('user') ?? checker.fail('a startup packet without a user')
    this.database = startup.get('database') ?? this.user
    yield { for: 'time', ms: random.next() * rules.workMsMax }
    if (!(yield* this.#authenticate())) return false
    const { refusal } = this.server
    if (refusal !== null) {
      this.#faulted = true
      this.#write(wire.errorMessage('FATAL', refusal.code, refusal.text))
      return false
    }
    this.backend = new Backend(startup)
    this.key = this.server.register(this)
    this.#report()
    this.#write(wire.message('K', wire.int32(this.key.pid), this.key.secret))
    this.#write(wire.message('Z', Buffer.from('I')))
    this.#flush()
    checker.trace(`${this.name} logged in`)
    return true
  }

  *#authenticate(): Conversation<boolean> {
    const { rules, checker, random } = this.server
    if (rules.auth === 'scram') {
      yield* this.#authenticateScram()
    } else if (rules.auth !== 'trust') {
      const salt = Buffer.alloc(4)
      random.fill(salt)
      const password = rules.passwords.get(this.user) ?? checker.fail(`user ${this.user} does not exist`)
      const request = rules.auth === 'md5' ? [wire.int32(5), salt] : [wire.int32(3)]
      this.#write(wire.message('R', ...request))
      this.#flush()
      const answer = yield* this.#nextPassword()
      const expected = rules.auth === 'md5' ? md5Answer(this.user, password, salt) : password
      if (!answer.equals(wire.cString(expected))) checker.fail(`${this.name} got a wrong password`)
    }
    this.#write(wire.message('R', wire.int32(0)))
    return true
  }

  *#authenticateScram(): Conversation<void> {
    const { rules, checker, random, address } = this.server
    const password = rules.passwords.get(this.user) ?? checker.fail(`user ${this.user} does not exist`)
    const scram = new ScramServer(verifierOf(password, address.host), nonceOf(random))
    this.#write(wire.message('R', wire.int32(10), mechanism, Buffer.alloc(1)))
    this.#flush()
    const first = yield* this.#nextPassword()
    if (wire.splitStrings(first)[0] !== mechanism) checker.fail(`${this.name} got a request for another mechanism`)
    const challenge = scram.challenge(first.toString('utf8', mechanism.length + 5))
    this.#write(wire.message('R', wire.int32(11), Buffer.from(challenge)))
    this.#flush()
    const final = yield* this.#nextPassword()
    const confirmation = scram.confirm(final.toString('utf8')) ?? checker.fail(`${this.name} got a wrong proof`)
    this.#write(wire.message('R', wire.int32(12), Buffer.from(confirmation)))
  }

  *#nextPassword(): Conversation<Buffer> {
    const message = yield* this.#next()
    if (message.tag !== 'p') this.server.checker.fail(`${this.name} got "${message.tag}" in place of a password`)
    return message.body
  }

  *#work(atom: Atom): Conversation<void> {
    const { random, rules } = this.server
    this.#watch(atom)
    const { backend } = this
    if (backend.ignores(atom)) return
    const text = backend.textOf(atom)
    const runs = atom.kind === 'statement' || atom.kind === 'execute' || atom.kind === 'call'
    let replies: Reply[] | null = null
    if (runs || atom.kind === 'copyData' || atom.kind === 'copyDone') {
      this.working = text === null || isShared(text) ? this.owner : clientOrOwn(text)
      yield { for: 'time', ms: durationMs(text, random, rules.workMsMax) }
      this.working = null
      if (this.#canceled) {
        this.#canceled = false
        replies = backend.fail(atom, new Failure('57014', 'canceling statement due to user request'))
        if (atom.kind === 'copyData' || atom.kind === 'copyDone') replies.push(...backend.endFailedCopy())
      }
    }
    replies ??= backend.run(atom)
    this.#noteSchema(atom, text, replies)
    for (const reply of replies) {
      if (reply.tag === 'Z') this.#report()
      this.#write(encodeReply(reply))
      if (reply.tag === 'Z' || reply.tag === 'G') this.#flush()
      this.server.checker.trace(`${this.name} answers ${signature(reply).slice(0, 60)}`)
    }
    if (backend.quiet) {
      this.owner = null
      this.hasReset = false
      this.#canceled = false
    }
  }

  /** A client's statement must not have been parsed before a change that was answered before the client's Parse. */
  #noteSchema(atom: Atom, text: string | null, [first]: readonly Reply[]): void {
    const { checker } = this.server
    if (atom.kind === 'parse' && first?.tag === '1') this.#schemas.set(atom.name, checker.schemaOf(this.database))
    if (text?.startsWith('alter') === true && first?.tag === 'C') checker.altered(ownerOf(text) ?? '', this.database)
    if (atom.kind !== 'bind' || first?.tag !== '2' || text === null || ownStatement(text) !== null) return
    const [owner, promise] = atom.values
    const schema = this.#schemas.get(atom.name) ?? 0
    if (promise === undefined || checker.isPromised(promise, this.database, schema)) return
    checker.fail(`${this.name}: ${owner} gets a statement of schema ${schema}, and was promised ${promise}`)
  }

  /** Checks whether the owner of the atom may use this session now. */
  #watch(atom: Atom): void {
    const { checker } = this.server
    const text = this.backend.textOf(atom)
    if (text === null || text === '' || this.backend.ignores(atom)) return
    const own = ownStatement(text)
    if (own !== null) {
      if (this.hasReset && own.kind === 'setConfig') return
      if (this.owner !== null) checker.fail(`${this.name}: "${text}" inside what ${this.owner} has begun`)
      return
    }
    const owner = ownerOf(text) ?? (isShared(text) ? this.backend.valuesOf(atom)[0] : undefined)
    if (owner === undefined) {
      if (isShared(text)) return
      return checker.fail(`${this.name}: the statement "${text}" has no owner`)
    }
    const client = clientOf(owner)
    if (/^(set|reset|discard)\b.* --/.test(text)) this.hasReset = true
    checker.trace(`${this.name} runs ${atom.kind} ${text.slice(0, 60)}`)
    if (this.owner !== null && this.owner !== client) {
      checker.fail(`${this.name}: "${text}" inside what ${this.owner} has begun`)
    }
    if (this.owner === null) {
      this.owner = client
      checker.began(owner, this)
    }
  }

  /** Changed settings are reported before ReadyForQuery. */
  #report(): void {
    for (const name of reportedSettings) {
      const value = this.backend.settings.get(name) ?? ''
      if (this.#reported.get(name) === value) continue
      this.#reported.set(name, value)
      this.#write(wire.message('S', name, value))
    }
  }

  #write(bytes: Buffer): void {
    this.#out.push(bytes)
    this.#outBytes += bytes.length
    if (this.#outBytes >= this.server.rules.bufferBytesMax) this.#flush()
  }

  #flush(): void {
    if (this.#out.length === 0) return
    this.peer.write(Buffer.concat(this.#out))
    this.#out = []
    this.#outBytes = 0
  }

  *#next(): Conversation<wire.Message> {
    for (;;) {
      const message = this.#cutter.take()
      if (message !== undefined) return message
      yield { for: 'bytes' }
    }
  }

  *#nextStartup(): Conversation<Buffer> {
    for (;;) {
      const message = this.#cutter.takeStartup()
      if (message !== undefined) return message.body
      yield { for: 'bytes' }
    }
  }
}

export function nonceOf(random: Random): string {
  const bytes = Buffer.alloc(9)
  random.fill(bytes)
  return bytes.toString('base64')
}

function clientOrOwn(text: string): string {
  const owner = ownerOf(text)
  return owner === null ? 'the engine' : clientOf(owner)
}

function durationMs(text: string | null, random: Random, workMsMax: number): number {
  const sleep = /^sleep (\d+)/.exec(text ?? '')
  return sleep === null ? random.next() * workMsMax : Number(sleep[1])
}

/** "md5" + md5(md5(password + user) + salt). */
export function md5Answer(user: string, password: string, salt: Buffer): string {
  const inner = createHash('md5').update(`${password}${user}`).digest('hex')
  return `md5${createHash('md5').update(inner).update(salt).digest('hex')}`
}
