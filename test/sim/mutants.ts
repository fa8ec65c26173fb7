/**
 * Mutants of the engine: proof that the simulator can fail. One that it does not find means that a check is missing.
 * `npm run sim -- --mutants` prints how easily each is found.
 */
import { Client } from '../../proxy/engine/pool/client.ts'
import { Pool } from '../../proxy/engine/pool/pool.ts'
import { Schema } from '../../proxy/memory/schema-changes.ts'
import { Outstanding } from '../../proxy/engine/session/outstanding.ts'
import { Parameters } from '../../proxy/engine/session/parameters.ts'
import { ServerSet } from '../../proxy/engine/pool/server-set.ts'
import { ServerSource } from '../../proxy/engine/pool/server-source.ts'
import { OldestFirst } from '../../proxy/engine/pool/oldest-first.ts'
import { Pools } from '../../proxy/engine/pool/pools.ts'
import { ServerStatements } from '../../proxy/engine/session/prepared.ts'
import { Server } from '../../proxy/engine/pool/server.ts'
import { UnnamedChange, UnnamedStatement } from '../../proxy/engine/session/unnamed.ts'
import { SimulationFailure } from './checker.ts'
import { SimSocket } from './io.ts'
import { changesThings, randomProfile } from './profile.ts'
import type { Profile } from './profile.ts'
import { Random } from './random.ts'
import { replace } from './replace.ts'
import { World } from './world.ts'

function replaceGetter<Owner extends object>(
  owner: Owner,
  key: keyof Owner,
  make: (this: Owner) => unknown,
): () => void {
  const before = Object.getOwnPropertyDescriptor(owner, key)
  if (before?.get === undefined) throw new Error(`there is no ${String(key)} to replace`)
  Object.defineProperty(owner, key, { configurable: true, get: make })
  return () => Object.defineProperty(owner, key, before)
}

/** Each breaks one thing in the engine, and returns what mends it. */
export const mutants: Readonly<Record<string, () => () => void>> = {
  'a server goes back although its client left inside a transaction': () =>
    replace(
      Server.prototype,
      'clientGone',
      () =>
        function (this: Server) {
          this.giveBack()
        },
    ),
  'a server goes back before the Sync of a pipeline that was answered': () =>
    replaceGetter(Outstanding.prototype, 'empty', function () {
      return this.count === 0 && !this.lost
    }),
  'a server is given away while a cancel request is on its way to it': () =>
    replace(
      ServerSet.prototype,
      'checkin',
      (checkin) =>
        function (this: ServerSet, server: Server) {
          const { cancels } = server
          server.cancels = 0
          checkin.call(this, server)
          server.cancels = cancels
        },
    ),
  'a server keeps the parameters of its last client': () => replace(Server.prototype, 'adjust', () => () => true),
  'a parameter that a client has set does not follow it': () =>
    replace(
      Parameters.prototype,
      'with',
      () =>
        function (this: Parameters) {
          return this
        },
    ),
  'what a client has set is not asked of its server': () =>
    replaceGetter(Server.prototype, 'learns', function () {
      return false
    }),
  'a setting that was taken back is kept': () =>
    replace(
      Parameters.prototype,
      'with',
      (original) =>
        function (this: Parameters, name, value) {
          return value === null ? this : original.call(this, name, value)
        },
    ),
  'a RESET takes what the client began with': () => replace(Server.prototype, 'restores', () => () => false),
  'what triggers have set is left to the next client': () => replace(Server.prototype, 'use', () => () => undefined),
  'session state is not noticed': () => replace(Server.prototype, 'note', () => () => undefined),
  'a client that listens loses its server': () => replaceGetter(Server.prototype, 'pins', () => false),
  'a session is not reset for the next client': () =>
    replace(
      Server.prototype,
      'giveBack',
      () =>
        function (this: Server) {
          this.serverSet.checkin(this)
        },
    ),
  'a hash that was ever seen is never applied again': () =>
    replace(Pools.prototype, 'apply', (apply) => {
      const seen = new WeakMap<Pools, Set<string>>()
      return function (this: Pools, spec, force) {
        const hashes = seen.get(this) ?? new Set()
        seen.set(this, hashes)
        const text = JSON.stringify(spec.pools.map((pool) => pool.hash))
        if (hashes.has(text)) return { ...apply.call(this, { ...spec, position: { epoch: 0, version: 0 } }, false) }
        hashes.add(text)
        return apply.call(this, spec, force)
      }
    }),
  'a version that is not newer is applied': () =>
    replace(
      Pools.prototype,
      'apply',
      (apply) =>
        function (this: Pools, spec) {
          return apply.call(this, spec, true)
        },
    ),
  'idle servers stay when their pool is rebuilt': () =>
    replace(
      ServerSet.prototype,
      'drain',
      () =>
        function (this: ServerSet) {
          this.draining = true
        },
    ),
  'a server of a rebuilt pool goes on serving': () =>
    replace(
      ServerSource.prototype,
      'configure',
      (original) =>
        function (this: ServerSource, spec, shown) {
          if (this.current === null) original.call(this, spec, shown)
          else this.current.adopt(spec)
        },
    ),
  'clients of a removed pool are forgotten': () =>
    replace(
      Pool.prototype,
      'remove',
      (remove) =>
        function (this: Pool) {
          const undo = [
            replace(Client.prototype, 'fatal', () => () => undefined),
            replace(Client.prototype, 'dismissWhenFree', () => () => undefined),
          ]
          remove.call(this)
          for (const restore of undo) restore()
        },
    ),
  'waiting clients are not served when a server is free': () =>
    replace(ServerSource.prototype, 'serve', () => () => false),
  'users of one role have servers each': () =>
    replace(
      Pools.prototype,
      'apply',
      (apply) =>
        function (this: Pools, spec, force) {
          // As if they were opened in different ways.
          const pools = spec.pools.map((pool) => ({ ...pool, connectHash: pool.connectHash + pool.user }))
          return apply.call(this, { ...spec, pools }, force)
        },
    ),
  'the pool that came first is served first': () =>
    replace(OldestFirst.prototype, 'first', () => {
      return function (this: OldestFirst<Pool>) {
        return [...this].find(({ waitingSinceMs }) => waitingSinceMs < Infinity) ?? null
      }
    }),
  'pool_size is exceeded by one': () =>
    replace(
      ServerSource.prototype,
      'grow',
      (grow) =>
        function (this: ServerSource) {
          grow.call(this)
          if ([...this.pools].some(({ waiting }) => waiting.size > 1)) this.current?.connect(Infinity)
        },
    ),
  'a client is not resumed when its server has room again': () =>
    replace(Server.prototype, 'onDrain', () => () => undefined),
  'a server is not resumed when its client has room again': () =>
    replace(Client.prototype, 'onDrain', () => () => undefined),
  'a server is not paused while its client does not read': () =>
    replace(
      SimSocket.prototype,
      'pauseReading',
      (pauseReading) =>
        function (this: SimSocket) {
          if (this.accepted) pauseReading.call(this)
        },
    ),
  'SUSPEND goes on reading what servers answer': () =>
    replace(
      SimSocket.prototype,
      'suspendReading',
      (suspendReading) =>
        function (this: SimSocket) {
          if (this.accepted) suspendReading.call(this)
        },
    ),
  'RESUME leaves servers held back': () =>
    replace(
      SimSocket.prototype,
      'unsuspendReading',
      (unsuspendReading) =>
        function (this: SimSocket) {
          if (this.accepted) unsuspendReading.call(this)
        },
    ),
  'a client that logs in during a SUSPEND is served': () =>
    replace(
      Client.prototype,
      'begin',
      (begin) =>
        function (this: Client) {
          begin.call(this)
          this.socket.unsuspendReading()
        },
    ),
  'servers are opened during a SUSPEND': () =>
    replace(
      ServerSource.prototype,
      'grow',
      (grow) =>
        function (this: ServerSource) {
          grow.call(this)
          const { current } = this
          if (!this.context.suspended || current === null || this.paused) return
          if (this.hasWaiting && current.size < current.settings.poolSize) current.connect(Infinity)
        },
    ),
  'a statement counts as prepared before the server confirms it': () =>
    replace(ServerStatements.prototype, 'isAwaitedFromBefore', () => () => false),
  'a server’s prepared statement is forgotten': () => replace(ServerStatements.prototype, 'has', () => () => false),
  'a statement prepared before a change of the schema is shared with a client that comes after it': () =>
    replace(Schema.prototype, 'changed', () => () => undefined),
  'an unnamed statement cannot be told from the one before it': () =>
    replace(
      UnnamedStatement.prototype,
      'parsed',
      (parsed) =>
        function (this: UnnamedStatement, settled, group) {
          const change = parsed.call(this, settled, group)
          change.stamp = 1
          return change
        },
    ),
  'the unnamed statement does not follow its client': () =>
    replace(UnnamedChange.prototype, 'keep', () => () => undefined),
  'a client that leaves keeps its server': () =>
    replace(Server.prototype, 'clientGone', () => {
      return () => undefined
    }),
  'a client is not told that its server is lost': () =>
    replace(
      Client.prototype,
      'serverLost',
      () =>
        function (this: Client) {
          this.leave()
        },
    ),
  'a cancel request for a waiting client is half ignored': () =>
    replace(
      Client.prototype,
      'cancel',
      (cancel) =>
        function (this: Client, done) {
          if (this.list === this.pool.waiting) this.moveTo(this.pool.idle)
          cancel.call(this, done)
        },
    ),
  'idle servers are not watched': () =>
    replace(
      Server.prototype,
      'onClose',
      (original) =>
        function (this: Server, cause) {
          if (this.list !== this.serverSet.idle) original.call(this, cause)
        },
    ),
  'a lost server is counted twice': () =>
    replace(
      Server.prototype,
      'close',
      (close) =>
        function (this: Server, cause, details) {
          if (cause === 'reset') this.serverSet.source.closed.count(this.serverSet.source.user, cause)
          close.call(this, cause, details)
        },
    ),
}

/** Much arrives at once, so that a world gets far within its events. */
const isCoarse = ({ rules, slow }: Profile): boolean => rules.grainBytes >= 5000 && !slow
const isTransaction = ({ mode }: Profile): boolean => mode === 'transaction'
const isHealed = ({ stop }: Profile): boolean => stop === 'at rest'
/** … and goes on for long, because little is injected. */
const isLong = (profile: Profile): boolean => isCoarse(profile) && profile.chaosEveryMs === 500
/** Clients of transaction pools that only use statements, which follow them. */
const usesStatements = (profile: Profile): boolean =>
  isTransaction(profile) && profile.statementsOnly && profile.preparedMax > 0
/** Little else happens, and requests are under way for long. */
const isFullOfCancels = ({ kind, chaosEveryMs, thinkMsMax, rules }: Profile): boolean =>
  kind === 'calm' && chaosEveryMs === 5 && thinkMsMax < 1000 && rules.latencyMsMax === 20 && rules.grainBytes > 1

/** The worlds in which a mutant can show, and does often; others are skipped. */
const places: Readonly<Record<string, (profile: Profile) => boolean>> = {
  'a server goes back before the Sync of a pipeline that was answered': (profile) =>
    isCoarse(profile) && profile.sleepMsMax !== 500,
  'a server is given away while a cancel request is on its way to it': (profile) =>
    isTransaction(profile) && isFullOfCancels(profile),
  'a parameter that a client has set does not follow it': (profile) => isTransaction(profile) && isLong(profile),
  'what a client has set is not asked of its server': (profile) => isTransaction(profile) && isCoarse(profile),
  'session state is not noticed': (profile) => isTransaction(profile) && isCoarse(profile),
  'a client that listens loses its server': (profile) => isTransaction(profile) && isLong(profile),
  'a setting that was taken back is kept': (profile) => isTransaction(profile) && isLong(profile),
  'a RESET takes what the client began with': (profile) => profile.mode !== 'mixed' && isCoarse(profile),
  'a session is not reset for the next client': (profile) =>
    profile.mode === 'session' && isHealed(profile) && !profile.slow,
  'what triggers have set is left to the next client': (profile) => profile.strict && isCoarse(profile),
  'clients of a removed pool are forgotten': (profile) =>
    changesThings(profile) && isHealed(profile) && profile.chaosEveryMs === 5,
  'users of one role have servers each': ({ sharesServers }) => sharesServers,
  'the pool that came first is served first': ({ sharesServers }) => sharesServers,
  'a server is not paused while its client does not read': (profile) =>
    profile.floodBytes > 1000 && profile.chaosEveryMs === 500 && isHealed(profile),
  'SUSPEND goes on reading what servers answer': changesThings,
  'RESUME leaves servers held back': (profile) =>
    changesThings(profile) && isHealed(profile) && profile.thinkMsMax === 1000,
  'a client that logs in during a SUSPEND is served': changesThings,
  'servers are opened during a SUSPEND': changesThings,
  'a statement counts as prepared before the server confirms it': (profile) =>
    isTransaction(profile) && isLong(profile) && profile.preparedMax > 0,
  'a statement prepared before a change of the schema is shared with a client that comes after it': usesStatements,
  'an unnamed statement cannot be told from the one before it': usesStatements,
  'the unnamed statement does not follow its client': usesStatements,
  'a cancel request for a waiting client is half ignored': (profile) =>
    isHealed(profile) && isCoarse(profile) && (profile.kind === 'calm' || profile.kind === 'broken'),
}

/** Worlds of its place in which a mutant is searched for. */
export const worldsMax = 600

export interface Found {
  readonly seed: number
  /** How many worlds were searched. */
  readonly worlds: number
  readonly text: string
}

/** The worlds that fail because of a mutant, first to last. */
export function* findings(mutant: string, limit = worldsMax): Generator<Found, void> {
  const apply = mutants[mutant]
  if (apply === undefined) throw new Error(`there is no mutant "${mutant}"`)
  const isPlace = places[mutant] ?? (() => true)
  for (let seed = 0, worlds = 0; worlds < limit; seed++) {
    // The first thing that a world takes from its random numbers.
    if (!isPlace(randomProfile(new Random(seed)))) continue
    worlds++
    const text = failureWith(apply, seed)
    if (text !== null) yield { seed, worlds, text }
  }
}

function failureWith(apply: () => () => void, seed: number): string | null {
  const undo = apply()
  try {
    new World(seed).run()
    return null
  } catch (error) {
    if (error instanceof SimulationFailure) return error.message
    throw error
  } finally {
    undo()
  }
}
