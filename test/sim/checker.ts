/**
 * Decides whether what a client or server reports is legitimate: every error needs a cause in this world, every cause
 * explains only as many errors as it can have had, and no client gets what belongs to another.
 */
import { parseDuration } from '../../shared/config/duration.ts'
import type { Cause } from '../../shared/causes.ts'
import { clientOf } from './backend.ts'
import type { Client, ClientChecker } from './client.ts'
import { connectHashOf, planOf, poolKey } from './configuration.ts'
import type { Version, Wanted } from './configuration.ts'
import type { ServerChecker, Session } from './postgres.ts'
import type { Profile } from './profile.ts'
import type { Schedule } from './schedule.ts'
import type { FaultName } from './faults.ts'

export class SimulationFailure extends Error {
  readonly seed: number
  constructor(seed: number, text: string, options?: { cause: unknown }) {
    super(`seed ${seed}: ${text}`, options)
    this.name = 'SimulationFailure'
    this.seed = seed
  }
}

/** The engine may have started its clock before the client, by the time that an answer takes to arrive. */
const slackMs = 2000

/** Longest time until the engine notices a client that left silently. */
const forgetMs = 65_000

/** What a client gets whose pool is not in the configuration, or no longer. */
const goneCodes: ReadonlySet<string> = new Set(['57P01', '3D000', '28P01'])

/** Refused logins that clients learn of at once, because waiting does not help. */
const lastingCodes: ReadonlySet<string> = new Set(['3D000', '28P01'])

/** The end of a server, reported by itself or by the engine. */
const lossCodes: ReadonlySet<string> = new Set(['08006', '57P01', '25P03', '57P05'])

/** Faults that explain the loss of a server by a cause; one of them must have occurred. Other causes never occur. */
const reasons: Partial<Record<Cause, readonly FaultName[]>> = {
  keepalive_timeout: ['serverSilence', 'host'],
  user_timeout: ['serverSilence', 'host'],
  connect_timeout: ['serverSilence', 'host'],
  connect_refused: ['host'],
  unreachable: ['host'],
  reset: ['serverCut', 'crash', 'serverClose', 'serverTerminate', 'refuse'],
  closed: ['serverClose'],
  terminated: ['serverTerminate', 'refuse'],
  auth_failed: ['refuse'],
}

export class Checker implements ServerChecker, ClientChecker {
  readonly seed: number
  readonly #schedule: Schedule
  readonly #profile: Profile
  readonly #trace: ((line: string) => void) | null
  phase: 'faults' | 'healing' | 'healthy' | 'stopping' = 'faults'
  /** Until then transactions may finish while the engine stops. */
  deadlineMs = 0
  readonly clients = new Set<Client>()
  /** What has happened, in words; a test requires that the fixed seeds cover everything. */
  readonly seen = new Set<string>()
  /** Server connections that a fault has hit. */
  readonly hit = new Set<object>()
  /** Clients that lost a server, those of them with an error of the engine's, and those in the engine's reports. */
  #hurt = 0
  #told = 0
  #reportedHurt = 0
  /** SQLSTATEs with which servers have refused logins. */
  readonly refusals = new Set<string>()
  readonly versions: Version[] = []
  /** For each pool the addresses of its primary, after each possible change, oldest first. */
  readonly #addresses = new Map<string, (readonly string[])[]>()
  readonly #names = new Map<string, readonly string[]>()
  readonly #sentToAddresses = new Map<string, number>()
  /** In session mode, the session of a client's first statement. */
  readonly #sessions = new Map<string, Session>()
  readonly #leftAtMs: number[] = []
  /** For each pool, the number of dials when each of its generations began. */
  readonly #generations = new Map<string, number[]>()
  /** For each client, the generation of its pool when its oldest unanswered work was sent. */
  readonly #sentUnder = new Map<string, number>()
  /** For each server database, the number of changes of its schema. */
  readonly #schemas = new Map<string, number>()
  /** For each client, its last change of a schema. */
  readonly #alters = new Map<string, { readonly database: string; readonly schema: number }>()
  /** For each server database, the last change that was answered. */
  readonly #toldSchemas = new Map<string, number>()
  /** Databases and clients that an operator has killed. */
  readonly killed = new Set<string>()
  /** Pools that a version has removed. */
  readonly #removed = new Set<string>()

  constructor(seed: number, schedule: Schedule, profile: Profile, trace: ((line: string) => void) | null) {
    this.seed = seed
    this.#schedule = schedule
    this.#profile = profile
    this.#trace = trace
  }

  get version(): Version {
    return this.versions.at(-1) ?? new Map()
  }

  trace(text: string): void {
    this.#trace?.(`${this.#schedule.nowMs.toFixed(3)} ${text}`)
  }

  fail(text: string): never {
    throw new SimulationFailure(this.seed, `at ${this.#schedule.nowMs.toFixed(3)} ms: ${text}`)
  }

  /** Before a version is applied, after `dials` connections. */
  applying(version: Version, dials: number): void {
    const begun = new Map<string, number>()
    for (const key of new Set([...this.version.keys(), ...version.keys()])) {
      const plan = planOf(only(this.version, key), only(version, key))
      if (plan.removed > 0) this.#removed.add(key)
      if (plan.added + plan.rebuilt > 0) begun.set(key, this.#startOf(version.get(key)) ?? dials)
    }
    // After all have been looked up: a user may take over the servers that another one leaves by this version.
    for (const [key, start] of begun) this.#generations.set(key, [...(this.#generations.get(key) ?? []), start])
    for (const [key, wanted] of version) this.#note(key, wanted)
    this.versions.push(version)
  }

  /** When servers were first opened that a pool joins, because another user of its database has them. */
  #startOf(wanted: Wanted | undefined): number | null {
    if (wanted === undefined) return null
    for (const [key, other] of this.version) {
      const isSame = other.pool === wanted.pool && connectHashOf(other) === connectHashOf(wanted)
      if (isSame) return this.#generations.get(key)?.at(-1) ?? null
    }
    return null
  }

  /** A host name has other addresses from now on. */
  moving(name: string, addresses: readonly string[]): void {
    this.#names.set(name, addresses)
    for (const [key, wanted] of this.version) this.#note(key, wanted)
  }

  #note(key: string, { hosts }: Wanted): void {
    const notes = this.#addresses.get(key) ?? []
    const primary = hosts.find(({ role }) => role === 'primary')
    if (primary !== undefined) notes.push(this.#names.get(primary.host) ?? primary.addresses)
    this.#addresses.set(key, notes)
  }

  /** The engine reports a lost server. */
  lost(cause: Cause, state: string, clientHurt: boolean): void {
    this.seen.add(`lost ${cause} while ${state}`)
    if (clientHurt) this.#reportedHurt++
    const needed = reasons[cause] ?? []
    if (!needed.some((name) => this.seen.has(`fault ${name}`)))
      this.fail(`a server was lost by ${cause}, which no fault explains`)
  }

  // Reports of clients and servers

  sent(client: Client, owner: string): void {
    this.trace(`${owner} begins`)
    if (!client.quietNow) return
    this.#sentUnder.set(client.id, this.#generations.get(keyOf(client))?.length ?? 0)
    this.#sentToAddresses.set(client.id, (this.#addresses.get(keyOf(client))?.length ?? 0) - 1)
  }

  /**
   * A transaction must not run on a server of a configuration older than the one it was sent under, nor on an address
   * that no longer belonged to the host name. A session keeps its server, and so does a client that listens.
   */
  began(owner: string, session: Session): void {
    const client = [...this.clients].find((candidate) => owner.startsWith(`${candidate.id}.`))
    if (client === undefined || client.pinned || this.#profile.mode === 'mixed') return
    if (this.#profile.mode === 'session') {
      const first = this.#sessions.get(client.id) ?? session
      this.#sessions.set(client.id, first)
      if (first !== session) this.fail(`${owner} runs on ${session.name}, and its session is on ${first.name}`)
      return
    }
    const key = keyOf(client)
    const sentUnder = this.#sentUnder.get(client.id) ?? 0
    const starts = (this.#generations.get(key) ?? []).slice(Math.max(0, sentUnder - 1))
    if (!starts.some((start) => start <= session.serial)) {
      this.fail(`${owner} was sent under generation ${sentUnder} and runs on ${session.name}, which is older`)
    }
    const { host } = session.server.address
    const addresses = (this.#addresses.get(key) ?? []).slice(this.#sentToAddresses.get(client.id) ?? 0)
    if (!addresses.some((some) => some.includes(host))) this.fail(`${owner} runs on ${host}, which had left its name`)
  }

  wrongFatal(client: Client, code: string, text: string): string | null {
    this.seen.add(`fatal ${code}`)
    if (client.babbled && code === '08P01') return null
    // Under trust a client with a wrong password is logged in, and then like any other.
    if (client.options.stray && client.state !== 'ready') return null
    // An operator's KILL may be read after the engine has begun to stop.
    if (this.wasKilled(client) && code === '57P01') return null
    if (this.phase === 'stopping') return this.#wrongStop(client, code)
    if (this.#removed.has(keyOf(client)) && goneCodes.has(code)) {
      return this.hit.size === 0 && client.status !== 'I' ? 'its transaction might have finished' : null
    }
    if (this.phase === 'healthy') return 'the world is healthy'
    if (/^(query_wait_timeout|server login has been failing)/.test(text)) return this.#wrongWait(client)
    if (text.startsWith('no more connections allowed')) {
      const { clientsMax } = this.#profile
      const sinceMs = this.#schedule.nowMs - forgetMs
      const known = this.clients.size + this.#leftAtMs.filter((leftMs) => leftMs > sinceMs).length
      return known > clientsMax ? null : `${known} of ${clientsMax} clients`
    }
    if (this.refusals.has(code) && lastingCodes.has(code)) return null
    return lossCodes.has(code) ? this.#wrongLoss(code) : 'no fault explains it'
  }

  wasKilled(client: Client): boolean {
    return this.killed.has(client.options.pool) || this.killed.has(client.id)
  }

  #wrongWait(client: Client): string | null {
    const key = keyOf(client)
    const times = this.versions.map((version) => parseDuration(version.get(key)?.values.query_wait_timeout ?? '') ?? 0)
    const shortestMs = Math.min(...times.filter((time) => time > 0))
    const waitedMs = this.#schedule.nowMs - client.progressMs
    return waitedMs + slackMs >= shortestMs ? null : `it waited ${waitedMs} ms, and may wait ${shortestMs} ms`
  }

  /** A lost server affects at most the client that is linked to it. */
  #wrongLoss(code: string): string | null {
    this.#hurt++
    if (this.#hurt > this.hit.size) return `${this.#hurt} clients lost ${this.hit.size} servers`
    // The server's own FATAL error is forwarded before the engine reports the loss.
    if (code === '08006') this.#told++
    return this.#told <= this.#reportedHurt
      ? null
      : `${this.#told} clients got an error, ${this.#reportedHurt} were reported`
  }

  #wrongStop(client: Client, code: string): string | null {
    const early = this.#schedule.nowMs < this.deadlineMs
    const open = client.state === 'ready' && client.status !== 'I'
    if (early && open && this.hit.size === 0) return 'its transaction might have finished'
    return ['57P01', '57P03', '08006', '53300', '25P03', '57P05', '3D000', '28P01'].includes(code)
      ? null
      : 'no error of an engine that stops'
  }

  wrongEnd(client: Client, kind: string, midMessage: boolean): string | null {
    if (client.wire.faulted || client.babbled || this.phase === 'stopping') return null
    if (this.wasKilled(client)) return null
    // The error may come too late, behind a long result on a slow wire.
    if (midMessage && this.#removed.has(keyOf(client))) return null
    // A client that does not read gets a second, and then loses what is unsent.
    if (this.#schedule.nowMs - client.frozenMs < slackMs) return null
    // So does a client that has not read since before its server was lost.
    if (client.frozen && this.hit.size > 0) return null
    return midMessage ? this.#wrongLoss('08006') : `no fault explains it (${kind})`
  }

  schemaOf(database: string): number {
    return this.#schemas.get(database) ?? 0
  }

  altered(owner: string, database: string): void {
    const schema = this.schemaOf(database) + 1
    this.#schemas.set(database, schema)
    this.#alters.set(clientOf(owner), { database, schema })
  }

  toldOfAlter(client: Client): void {
    const alter = this.#alters.get(client.id)
    if (alter === undefined) this.fail(`${client.id} was told of a change that no server has made`)
    this.seen.add('a schema was changed')
    const told = this.#toldSchemas.get(alter.database) ?? 0
    this.#toldSchemas.set(alter.database, Math.max(told, alter.schema))
  }

  promise(): string {
    return JSON.stringify(Object.fromEntries(this.#toldSchemas))
  }

  isPromised(promise: string, database: string, schema: number): boolean {
    const promised = JSON.parse(promise) as Readonly<Record<string, number>> // of `promise`
    return schema >= (promised[database] ?? 0)
  }

  left(client: Client): void {
    this.clients.delete(client)
    this.#leftAtMs.push(this.#schedule.nowMs)
  }

  canceled(client: Client): void {
    this.trace(`${client.id} was canceled`)
    this.seen.add('a query was canceled')
  }

  toldToWait(): void {
    this.seen.add('a client got the NOTICE that it waits')
  }

  /** Otherwise the thread that forwards a request may end before it, or give it up. */
  get cancelsEndInOrder(): boolean {
    return this.phase !== 'stopping'
  }

  cancelAnswered(): void {
    if (this.phase !== 'stopping') this.fail('a cancel request was answered')
  }
}

function keyOf(client: Client): string {
  return poolKey(client.options.pool, client.options.user)
}

function only(version: Version, key: string): Version {
  const wanted = version.get(key)
  return wanted === undefined ? new Map() : new Map([[key, wanted]])
}
