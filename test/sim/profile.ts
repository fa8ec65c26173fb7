import type { WireRules } from './network.ts'
import type { Random } from './random.ts'

/** The properties of a world, and the kinds of faults in it. */
export interface Profile {
  /** What goes wrong. calm: nothing; changing: the configuration; rude: clients; broken: network and servers. */
  readonly kind: 'calm' | 'changing' | 'rude' | 'broken' | 'everything'
  /** In a mixed world pools change between both modes. */
  readonly mode: 'transaction' | 'session' | 'mixed'
  /** Most prepared statements on a server; 0 disables them. */
  readonly preparedMax: number
  /** When the engine is stopped: after all clients have left, or while faults are injected. */
  readonly stop: 'at rest' | 'drain' | 'now'
  readonly clients: number
  readonly clientsMax: number
  readonly rules: WireRules
  /** Logins are slow. */
  readonly slow: boolean
  /** Most bytes of one message or result. */
  readonly bytesMax: number
  /** Bytes of one row of a result that is larger than all buffers together. */
  readonly floodBytes: number
  readonly thinkMsMax: number
  readonly sleepMsMax: number
  readonly pipelineMax: number
  readonly chaosEveryMs: number
  /**
   * Each client only uses named statements or only the unnamed one, all with equal parameters. Everything else takes the
   * unnamed statement from a session, so that a server would rarely keep an old one until its client is back.
   */
  readonly statementsOnly: boolean
  /** Pools have `isolation = "strict"`, and statements set what no text shows. */
  readonly strict: boolean
  /** Users of a database with the same role agree on their servers, as in a document; otherwise they may differ. */
  readonly sharesServers: boolean
}

export function randomProfile(random: Random): Profile {
  const grainBytes = random.pick([1, 7, 100, 5000, 70_000])
  const latencyMsMax = random.pick([0.1, 2, 20])
  const capacityBytes = random.pick([64, 1000, 65_536])
  const clients = random.integer(2, 8)
  const mode = random.weighted({ transaction: 7, session: 2, mixed: 1 })
  return {
    kind: random.weighted({ calm: 2, changing: 3, rude: 2, broken: 3, everything: 5 }),
    mode,
    preparedMax: random.pick([0, 1, 2, 200]),
    stop: random.weighted({ 'at rest': 7, drain: 2, now: 1 }),
    clients,
    clientsMax: random.chance(0.1) ? Math.max(4, clients - 1) : 10_000,
    rules: { latencyMsMax, capacityBytes, grainBytes },
    slow: latencyMsMax / grainBytes > 0.2,
    bytesMax: Math.min(grainBytes * 150, 40_000),
    floodBytes: grainBytes >= 5000 && capacityBytes > 1000 ? 40_000 : 10,
    thinkMsMax: random.pick([2, 50, 1000]),
    sleepMsMax: random.pick([50, 500, 5000]),
    pipelineMax: random.integer(1, 4),
    chaosEveryMs: random.pick([5, 50, 500]),
    statementsOnly: random.chance(0.1),
    sharesServers: random.chance(0.6),
    strict: mode === 'transaction' && random.chance(0.2),
  }
}

/** Options of the clients in such a world. */
export function habitsOf(profile: Profile) {
  const { mode, preparedMax, rules, thinkMsMax, sleepMsMax, pipelineMax, bytesMax, floodBytes, strict } = profile
  return {
    session: mode === 'session',
    prepares: mode === 'session' || (mode === 'transaction' && preparedMax > 0),
    rules,
    thinkMsMax,
    sleepMsMax,
    pipelineMax,
    bytesMax,
    floodBytes,
    strict,
  }
}

export function breaksThings({ kind }: Profile): boolean {
  return kind === 'broken' || kind === 'everything'
}

export function changesThings({ kind }: Profile): boolean {
  return kind === 'changing' || kind === 'everything'
}

export function isRude({ kind }: Profile): boolean {
  return kind === 'rude' || kind === 'everything'
}
