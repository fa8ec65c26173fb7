/**
 * A model of an application's connection. It logs in, sends random work, pipelines, cancels, waits, stops reading and
 * disconnects in every possible way. It knows the correct answer to each of its requests, because it runs a Backend of
 * its own beside the conversation.
 */
import type { Address } from '../../proxy/io/io.ts'
import { atomsOf, Backend, Failure, reportedSettings, settingName, signature } from './backend.ts'
import type { Atom, Request, Status } from './backend.ts'
import { encodeRequest, signatureOf } from './codec.ts'
import { Peer } from './network.ts'
import type { Network, WireRules } from './network.ts'
import { md5Answer, nonceOf, strayNotice } from './postgres.ts'
import type { Random } from './random.ts'
import { mechanism, ScramClient } from './scram.ts'
import { nextWork } from './script.ts'
import type { Step } from './script.ts'
import * as wire from './wire.ts'

/** What a client reports to the checker, which decides about answers that the client's own work does not explain. */
export interface ClientChecker {
  fail(text: string): never
  trace(text: string): void
  sent(client: Client, owner: string): void
  /** A FATAL error: why it is wrong, or null when it is legitimate. */
  wrongFatal(client: Client, code: string, text: string): string | null
  /** The connection ended without an error: why that is wrong, or null when it is legitimate. */
  wrongEnd(client: Client, kind: string, midMessage: boolean): string | null
  left(client: Client): void
  /** Its change of a schema was answered. */
  toldOfAlter(client: Client): void
  /** Which changes of schemas have been answered so far. */
  promise(): string
  /** One of its cancel requests canceled its query. */
  canceled(client: Client): void
  /** A cancel request was answered, which is legitimate only while the engine stops. */
  cancelAnswered(): void
  /** Whether the end of a request's connection says that the request is complete. */
  readonly cancelsEndInOrder: boolean
  toldToWait(): void
}

export interface ClientOptions {
  readonly id: string
  readonly host: string
  readonly pool: string
  readonly user: string
  readonly password: string
  /** Its password is wrong, or its database does not exist. */
  readonly stray: boolean
  /** Startup parameters besides user and database. */
  readonly startup: ReadonlyMap<string, string>
  /** The startup parameter `options`: settings as command-line switches. */
  readonly options: ReadonlyMap<string, string>
  readonly session: boolean
  /** The pool supports prepared statements for this client. */
  readonly prepares: boolean
  readonly rules: WireRules
  readonly thinkMsMax: number
  readonly sleepMsMax: number
  readonly pipelineMax: number
  readonly bytesMax: number
  readonly floodBytes: number
  /** Its pool has `isolation = "strict"`. */
  readonly strict: boolean
  /** The only statements that it uses; null when it does everything. */
  readonly only: 'named' | 'unnamed' | null
  readonly askSsl: boolean
}

export class Client {
  readonly options: ClientOptions
  readonly random: Random
  readonly checker: ClientChecker
  readonly #network: Network
  readonly #proxy: Address
  readonly #peer: Peer
  readonly #cutter = new wire.Cutter()
  state: 'connecting' | 'ssl' | 'login' | 'ready' | 'dying' | 'left' = 'connecting'
  /** It begins no new work and finishes what is open. */
  quiet = false
  /** It has violated the protocol and must be disconnected. */
  babbled = false
  /** It does not read. */
  frozen = false
  /** When it last stopped or resumed reading. */
  frozenMs = -Infinity
  /** When it last received something, or sent something while no answer was outstanding. */
  progressMs: number
  /** Cancel requests sent, less those that canceled something. */
  cancels = 0
  /** Cancel requests that may still arrive at a server. */
  #cancelsUnderWay = 0
  /** Number of atoms sent when the last cancel request was complete: those sent later were never canceled by it. */
  #atomsCancelable = 0
  #atomsSent = 0
  works = 0
  key: { readonly pid: number; readonly secret: Buffer } | null = null

  readonly #scram: ScramClient
  /** The state of a server of its own after everything answered so far. */
  #shadow: Backend
  /** … and after everything sent so far. */
  #ahead: Backend
  /** Sent, and not run by the shadow yet. */
  #pending: Atom[] = []
  /** Signatures of the outstanding replies to the last atom. */
  #expected: string[] = []
  #last: { readonly atom: Atom; readonly before: Backend } | null = null
  /** Steps of the current work that are not sent yet. */
  #steps: Step[] = []
  #stepsNeedTransaction = false
  /** For each prepared statement, the changes of schemas that were answered before its Parse was sent. */
  readonly #promises = new Map<string, string>()
  /** The last reported value of each setting. */
  #told = new Map<string, string>()
  #acting = false

  constructor(network: Network, random: Random, checker: ClientChecker, proxy: Address, options: ClientOptions) {
    this.#network = network
    this.random = random
    this.checker = checker
    this.#proxy = proxy
    this.options = options
    this.progressMs = network.schedule.nowMs
    this.#scram = new ScramClient(options.password, nonceOf(random))
    this.#shadow = new Backend(new Map([...options.options, ...options.startup]), options.strict)
    this.#ahead = this.#shadow.clone()
    this.#peer = new Peer(network.dial(options.host, proxy, options.rules), {
      onOpen: () => this.#opened(),
      onBytes: (bytes) => {
        this.#cutter.push(bytes)
        this.#read()
      },
      onEnd: (kind) => this.#ended(kind),
    })
  }

  get id(): string {
    return this.options.id
  }

  get wire(): Peer['end']['wire'] {
    return this.#peer.end.wire
  }

  /** An answer is outstanding. */
  get busy(): boolean {
    return (
      this.#expected.length > 0 || this.#pending.length > 0 || this.state === 'login' || this.state === 'connecting'
    )
  }

  /** Transaction status of the last ReadyForQuery. */
  status: Status = 'I'

  /** Nothing of this client is in progress on any server. */
  get quietNow(): boolean {
    return !this.busy && this.#shadow.quiet
  }

  /** It listens, and therefore keeps its server. */
  get pinned(): boolean {
    return this.#shadow.settings.get('listening') === 'yes'
  }

  /** No answer is outstanding and no transaction open. */
  get resting(): boolean {
    if (this.babbled) return this.state === 'left'
    return this.state === 'left' || (this.state === 'ready' && this.quietNow && this.#steps.length === 0)
  }

  describe(): string {
    const owed = [...this.#expected, ...this.#pending.map((atom) => atom.kind)].slice(0, 6).join(' ')
    return `${this.id} (${this.options.pool}/${this.options.user}) ${this.state} ${this.status}, outstanding: ${owed || 'nothing'}`
  }

  // Sending

  #opened(): void {
    if (this.options.askSsl) {
      this.state = 'ssl'
      this.#peer.write(wire.message('', wire.int32(wire.sslRequestCode)))
    } else {
      this.#login()
    }
  }

  #login(): void {
    const { user, pool, startup, options } = this.options
    const parameters = new Map([['user', user], ['database', pool], ...startup])
    const switches = [...options].map(([name, value]) => `-c ${name}=${value.replaceAll(' ', '\\ ')}`)
    if (switches.length > 0) parameters.set('options', switches.join(' '))
    this.state = 'login'
    this.#peer.write(wire.startupMessage(parameters))
  }

  /** Sends what may be sent now, and again later while work remains. */
  act(): void {
    if (this.state !== 'ready' || this.#acting || this.babbled) return
    this.#acting = true
    this.#network.schedule.after(this.random.chance(0.4) ? 0 : this.random.next() * this.options.thinkMsMax, () => {
      this.#acting = false
      this.#act()
    })
  }

  #act(): void {
    if (this.state !== 'ready' || this.babbled) return
    if (this.#steps.length === 0) {
      if (this.quiet && this.#ahead.quiet) return
      if (this.#owedEnds() >= this.options.pipelineMax) return
      this.#begin()
    }
    this.#send()
    if (this.#steps.length === 0) this.act()
  }

  #owedEnds(): number {
    return this.#pending.filter((atom) => atom.kind === 'sync' || atom.kind === 'endOfQuery').length
  }

  #begin(): void {
    const { session, prepares, bytesMax, floodBytes, sleepMsMax, strict, only } = this.options
    const owner = `${this.id}.${++this.works}`
    const { status, statementNames: prepared, unnamed } = this.#ahead
    const situation = {
      random: this.random,
      status,
      session,
      prepares,
      prepared,
      unnamed,
      bytesMax,
      floodBytes,
      sleepMsMax,
      strict,
      only,
      owner,
    }
    const closing: Step = { kind: 'query', text: `rollback @${owner}` }
    this.#steps = this.quiet && status !== 'I' ? [closing] : nextWork(situation)
    this.#stepsNeedTransaction = status === 'T' && !session
    this.checker.sent(this, owner)
  }

  #send(): void {
    const parts: Buffer[] = []
    const sent: string[] = []
    for (;;) {
      const step = this.#steps[0]
      if (step === undefined) break
      if (step === 'await') {
        if (this.busy || parts.length > 0) break
        this.#steps.shift()
        continue
      }
      this.#steps.shift()
      const request = this.#withPromise(step)
      parts.push(encodeRequest(request))
      sent.push(wordsOf(request))
      const atoms = atomsOf(request)
      for (const atom of atoms) {
        const [first] = this.#ahead.run(atom)
        if (atom.kind === 'parse' && first?.tag === '1') this.#promises.set(atom.name, this.checker.promise())
      }
      this.#pending.push(...atoms)
      this.#atomsSent += atoms.length
    }
    if (parts.length === 0) return
    if (!this.busy) this.progressMs = this.#network.schedule.nowMs
    this.checker.trace(`${this.id} sends ${sent.join(', ')}`)
    this.#peer.write(Buffer.concat(parts))
    this.#advance()
    // None of it is answered, so steps that wait for the answers go on.
    if (!this.busy && this.#steps.length > 0) this.#send()
  }

  /** A Bind tells the server what is promised of its statement. */
  #withPromise(request: Request): Request {
    if (request.kind !== 'bind' || request.name === '' || request.values.length !== 1) return request
    const promise = this.#promises.get(request.name)
    return promise === undefined ? request : { ...request, values: [...request.values, promise] }
  }

  // Misbehaving

  /** Sends a cancel request for its own query, over a separate connection. */
  cancel(): void {
    const { key } = this
    if (key === null || this.state !== 'ready') return
    this.cancels++
    this.#cancelsUnderWay++
    this.checker.trace(`${this.id} sends a cancel request`)
    this.#sendCancel(key.pid, key.secret, (isOver) => {
      if (!isOver) return
      this.#cancelsUnderWay--
      this.#atomsCancelable = this.#atomsSent
    })
  }

  /** A cancel request with a key that is almost its own, which must cancel nothing. */
  cancelWrong(): void {
    const { key } = this
    if (key === null) return
    const secret = Buffer.from(key.secret)
    secret[0] = (secret[0] ?? 0) ^ 1
    this.#sendCancel(key.pid, secret, () => undefined)
  }

  /** `done` is told whether the request is complete, or may still arrive at a server. */
  #sendCancel(pid: number, secret: Buffer, done: (isOver: boolean) => void): void {
    const peer = new Peer(this.#network.dial(this.options.host, this.#proxy, this.options.rules), {
      onOpen: () => peer.write(wire.cancelMessage(pid, secret)),
      onBytes: () => this.checker.cancelAnswered(),
      onEnd: (kind) => done(kind === 'eof' && !peer.end.wire.faulted && this.checker.cancelsEndInOrder),
    })
  }

  /** Sends a message of an unknown type in place of its next request. */
  babble(): void {
    if (this.state !== 'ready' || this.#steps.length > 0) return
    this.checker.trace(`${this.id} sends garbage`)
    this.babbled = true
    this.#peer.write(wire.message('!', 'what?'))
  }

  leave(how: 'terminate' | 'close' | 'reset' | 'half' | 'silence'): void {
    if (this.state === 'left') return
    this.checker.trace(`${this.id} leaves: ${how}`)
    // A closed connection does not keep its buffers full.
    if (this.frozen) this.freeze(false)
    if (how === 'half')
      this.#peer.write(encodeRequest({ kind: 'query', text: `select half @${this.id}.0` }).subarray(0, 7))
    if (how === 'terminate' && this.state === 'ready') this.#peer.write(encodeRequest({ kind: 'terminate' }))
    if (how === 'silence') this.wire.silence(Infinity)
    if (how === 'reset') this.#peer.reset()
    else this.#peer.finish()
    this.#gone()
  }

  freeze(frozen: boolean): void {
    this.frozen = frozen
    this.frozenMs = this.#network.schedule.nowMs
    this.#peer.reading = !frozen
  }

  #gone(): void {
    if (this.state === 'left') return
    this.state = 'left'
    this.checker.left(this)
  }

  // Reading

  #read(): void {
    if (this.state === 'ssl') {
      const byte = this.#cutter.peekByte()
      if (byte === undefined) return
      if (byte === 0x4e) {
        this.#cutter.takeByte()
        this.#login()
      } else {
        // An ErrorResponse instead (manual, "SSL Session Encryption").
        this.state = 'login'
      }
    }
    for (;;) {
      if (this.state === 'left') return
      const message = this.#cutter.take()
      if (message === undefined) return
      this.#message(message)
      if (!isQueuedNotice(message)) this.progressMs = this.#network.schedule.nowMs
    }
  }

  #message(message: wire.Message): void {
    const { tag, body } = message
    if (this.state === 'dying') this.checker.fail(`${this.id} got "${tag}" after a FATAL error`)
    if (tag === 'S') {
      const [name = '', value = ''] = wire.splitStrings(body)
      this.#told.set(settingName(name) ?? name, value)
      return
    }
    if (tag === 'E') {
      const fields = wire.errorFields(body)
      const severity = fields.get('V') ?? fields.get('S') ?? ''
      if (severity === 'FATAL' || severity === 'PANIC') {
        this.#fatal(fields.get('C') ?? '', fields.get('M') ?? '')
        return
      }
    }
    if (isQueuedNotice(message)) {
      this.checker.toldToWait()
      return
    }
    if (tag === 'N' && wire.errorFields(body).get('M') === strayNotice) return
    if (this.state === 'login') this.#loginMessage(message)
    else this.#answer(message)
  }

  #loginMessage({ tag, body }: wire.Message): void {
    switch (tag) {
      case 'R':
        this.#authenticate(body.readInt32BE(0), body.subarray(4))
        return
      case 'K':
        this.key = { pid: body.readInt32BE(0), secret: Buffer.from(body.subarray(4)) }
        return
      case 'Z':
        if (this.key === null) this.checker.fail(`${this.id} was logged in without a key`)
        this.state = 'ready'
        this.checker.trace(`${this.id} is logged in`)
        this.#compareTold()
        this.act()
        return
      default:
        this.checker.fail(`${this.id} got "${tag}" during its login`)
    }
  }

  #authenticate(method: number, data: Buffer): void {
    const { user, password } = this.options
    switch (method) {
      case 0:
        return
      case 5:
        this.#peer.write(wire.message('p', md5Answer(user, password, data)))
        return
      case 10: {
        const first = Buffer.from(this.#scram.first())
        this.#peer.write(wire.message('p', mechanism, wire.int32(first.length), first))
        return
      }
      case 11: {
        const final = this.#scram.final(data.toString('utf8'))
        if (final === null) this.checker.fail(`${this.id} got a challenge for another client`)
        this.#peer.write(wire.message('p', Buffer.from(final)))
        return
      }
      case 12:
        if (!this.#scram.trusts(data.toString('utf8'))) this.checker.fail(`${this.id} got a wrong server signature`)
        return
      default:
        this.checker.fail(`${this.id} got the authentication request ${method}`)
    }
  }

  #answer(message: wire.Message): void {
    const actual = signatureOf(message) ?? this.checker.fail(`${this.id} got "${message.tag}", which answers nothing`)
    const expected = this.#expected[0]
    if (actual === expected) {
      this.#expected.shift()
      if (actual === 'C:ALTER TABLE') this.checker.toldOfAlter(this)
      if (actual.startsWith('Z')) {
        this.status = actual.slice(2) as Status
        this.#compareTold()
      }
    } else if (actual === 'E:57014' && this.#last !== null && this.#mayBeCanceled) {
      this.#interrupted(this.#last)
    } else {
      const owed = this.#expected.slice(0, 4).join(' ')
      this.checker.fail(`${this.id} expected ${brief(owed) || 'nothing'} and got ${brief(actual)}: ${this.describe()}`)
    }
    this.#advance()
    if (!this.busy && this.#steps.length > 0) this.#send()
    this.act()
  }

  /** Runs what was sent on the shadow, up to the next request that is answered. */
  #advance(): void {
    while (this.#expected.length === 0) {
      const atom = this.#pending.shift()
      if (atom === undefined) return
      if (!this.#shadow.ignores(atom)) this.#last = { atom, before: this.#shadow.clone() }
      this.#expected = this.#shadow.run(atom).map(signature)
    }
  }

  /**
   * The atom whose answer is outstanding was sent before one of its cancel requests was complete, or belongs to a COPY, which
   * began before its end was sent.
   */
  get #mayBeCanceled(): boolean {
    if (this.cancels === 0) return false
    if (this.#expected[0]?.startsWith('C:COPY') === true) return true
    return this.#cancelsUnderWay > 0 || this.#atomsSent - this.#pending.length <= this.#atomsCancelable
  }

  /** The atom whose answer is outstanding was canceled. */
  #interrupted({ atom, before }: { atom: Atom; before: Backend }): void {
    this.cancels--
    this.checker.canceled(this)
    this.#shadow = before.clone()
    const replies = this.#shadow.fail(atom, new Failure('57014', ''))
    if (atom.kind === 'copyData' || atom.kind === 'copyDone') replies.push(...this.#shadow.endFailedCopy())
    if (atom.kind === 'sync') replies.push(...this.#shadow.run(atom))
    this.#expected = replies.map(signature).slice(1)
    this.#last = null
    this.#ahead = this.#shadow.clone()
    for (const sent of this.#pending) this.#ahead.run(sent)
    // Which of its Parses were executed is another question now.
    this.#promises.clear()
    // The rest of this work may rely on a transaction that never began.
    const copies = this.#steps.some((step) => step !== 'await' && step.kind.startsWith('copy'))
    if (this.#stepsNeedTransaction && !copies && this.#steps.length > 0) this.#steps = ['await', { kind: 'sync' }]
  }

  #compareTold(): void {
    for (const name of reportedSettings) {
      const told = this.#told.get(name)
      const value = this.#shadow.settings.get(name)
      if (told !== value) this.checker.fail(`${this.id} was reported ${name} = "${told}", but it is "${value}"`)
    }
  }

  #fatal(code: string, text: string): void {
    this.checker.trace(`${this.id} got FATAL ${code} ${text}`)
    const wrong = this.checker.wrongFatal(this, code, text)
    if (wrong !== null) this.checker.fail(`${this.describe()} got FATAL ${code} "${text}": ${wrong}`)
    this.state = 'dying'
    this.progressMs = this.#network.schedule.nowMs
  }

  #ended(kind: string): void {
    if (this.state === 'left') return
    this.checker.trace(`${this.id}: the connection ended (${kind})`)
    if (this.state !== 'dying') {
      const wrong = this.checker.wrongEnd(this, kind, this.#cutter.pending > 0)
      if (wrong !== null) this.checker.fail(`${this.describe()}: ${kind} without an error: ${wrong}`)
    }
    this.#gone()
  }
}

/** A request in a few words, for the trace. */
function wordsOf(request: Request): string {
  if (request.kind === 'parse') return `parse(${request.name}: ${brief(request.text)})`
  if (request.kind === 'query') return `query(${brief(request.text)})`
  return 'name' in request && request.name !== '' ? `${request.kind}(${request.name})` : request.kind
}

function brief(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}… (${text.length})` : text
}

/** The engine's NOTICE to a waiting client, which answers nothing. */
function isQueuedNotice({ tag, body }: wire.Message): boolean {
  return tag === 'N' && (wire.errorFields(body).get('M') ?? '').endsWith('client being queued')
}
