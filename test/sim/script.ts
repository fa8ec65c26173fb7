/** What clients do: a table of pieces of work, each a list of requests that ends with the last answer. */
import type { Request, Status } from './backend.ts'
import type { Random } from './random.ts'

/** A request, or a wait for the answers to all earlier requests. */
export type Step = Request | 'await'

export interface Situation {
  readonly random: Random
  /** Transaction status after everything sent so far. */
  readonly status: Status
  /** Session pooling: the client may leave state on its server. */
  readonly session: boolean
  /** The pool supports prepared statements for this client. */
  readonly prepares: boolean
  /** Names of its prepared statements after everything sent so far. */
  readonly prepared: readonly string[]
  /** Text of its unnamed statement, null when it has none. */
  readonly unnamed: string | null
  /** Most bytes of one message or result. */
  readonly bytesMax: number
  /** Bytes of one row of a result that is larger than all buffers together; small where that would take too long. */
  readonly floodBytes: number
  /** Longest duration of `sleep`. */
  readonly sleepMsMax: number
  /** The pool has `isolation = "strict"`. */
  readonly strict: boolean
  /** The only statements that the client uses; null when it does everything. */
  readonly only: 'named' | 'unnamed' | null
  /** Names the client and this piece of work: "c3.17". */
  readonly owner: string
}

interface Work {
  readonly weight: number
  readonly when: readonly Status[]
  /** The statements that it uses, when it uses no others. */
  readonly uses?: 'named' | 'unnamed'
  make(situation: Situation): Step[]
}

const anywhere: readonly Status[] = ['I', 'T', 'E']
const healthy: readonly Status[] = ['I', 'T']

const works = {
  begin: { weight: 6, when: ['I'], make: (at) => either(at, 'begin') },
  commit: { weight: 5, when: ['T'], make: (at) => either(at, 'commit') },
  rollback: { weight: 3, when: ['T', 'E'], make: (at) => either(at, 'rollback') },
  recover: { weight: 20, when: ['E'], make: (at) => either(at, at.random.pick(['rollback', 'commit'])) },
  select: { weight: 12, when: anywhere, make: (at) => either(at, `select ${'x'.repeat(at.random.size(20))}`) },
  long: { weight: 1, when: healthy, make: (at) => either(at, `select ${'y'.repeat(at.random.size(at.bytesMax))}`) },
  rows: { weight: 3, when: healthy, make: (at) => either(at, rows(at)) },
  flood: {
    weight: 0.3,
    when: healthy,
    make: (at) => either(at, `rows 30 ${at.floodBytes}`),
  },
  sleep: { weight: 3, when: healthy, make: (at) => either(at, `sleep ${at.random.size(at.sleepMsMax)}`) },
  error: { weight: 3, when: healthy, make: (at) => either(at, 'error') },
  notice: { weight: 1, when: healthy, make: (at) => either(at, 'notice') },
  empty: { weight: 1, when: ['I', 'T'], make: () => [{ kind: 'query', text: '' }] },
  set: { weight: 3, when: healthy, make: (at) => either(at, set(at)) },
  setLocal: { weight: 2, when: ['T'], make: (at) => either(at, `set local work_mem to ${at.random.integer(1, 9)}MB`) },
  reset: { weight: 2, when: healthy, make: (at) => either(at, reset(at)) },
  resetLocal: { weight: 1, when: ['T'], make: (at) => either(at, `set local ${setting(at)} to default --`) },
  discard: { weight: 0.3, when: ['I'], make: discard },
  fire: { weight: 3, when: healthy, make: fire },
  listen: { weight: 1, when: ['I'], make: listen },
  alter: { weight: 1, when: ['I'], uses: 'named', make: (at) => ['await', ...either(at, 'alter'), 'await'] },
  show: { weight: 6, when: healthy, make: (at) => either(at, show(at)) },
  several: { weight: 4, when: healthy, make: several },
  pipeline: { weight: 5, when: anywhere, make: pipeline },
  unsynced: { weight: 1, when: ['I', 'T'], make: unsynced },
  unknown: { weight: 1, when: healthy, make: unknown },
  named: { weight: 2, when: healthy, make: named },
  prepare: { weight: 5, when: anywhere, uses: 'named', make: prepare },
  usePrepared: { weight: 8, when: anywhere, uses: 'named', make: usePrepared },
  forget: { weight: 2, when: anywhere, make: forget },
  parseUnnamed: { weight: 3, when: anywhere, uses: 'unnamed', make: parseUnnamed },
  useUnnamed: { weight: 4, when: anywhere, uses: 'unnamed', make: useUnnamed },
  portals: { weight: 2, when: ['T'], make: portals },
  call: { weight: 1, when: anywhere, make: (at) => [{ kind: 'call', argument: `call @${at.owner}` }] },
  copyIn: { weight: 3, when: healthy, make: copyIn },
  copyOut: { weight: 2, when: healthy, make: (at) => either(at, `copyout ${at.random.size(40)}`) },
  syncs: {
    weight: 1,
    when: anywhere,

    make: (at) => Array.from({ length: at.random.integer(1, 3) }, () => sync),
  },
} as const satisfies Record<string, Work>

export function nextWork(situation: Situation): Step[] {
  const weights: Record<string, number> = {}
  for (const [name, work] of Object.entries<Work>(works)) {
    if (situation.only !== null && work.uses !== situation.only) continue
    if (work.when.includes(situation.status)) weights[name] = work.weight
  }
  const table: Record<string, Work> = works
  const work = table[situation.random.weighted(weights)]
  if (work === undefined) throw new Error('a status without work')
  return work.make(situation)
}

const sync: Request = { kind: 'sync' }
const flush: Request = { kind: 'flush' }

function rows({ random, bytesMax }: Situation): string {
  const count = random.size(30)
  return `rows ${count} ${random.size(Math.max(1, Math.floor((bytesMax * 3) / count)))}`
}

/** Parameters that are reported, and others, whose values the engine has to ask for. */
function setting({ random }: Situation): string {
  return random.pick(['application_name', 'TimeZone', 'search_path', 'work_mem', 'work_mem', 'role'])
}

function set(at: Situation): string {
  return `set ${setting(at)} to ${at.random.chance(0.3) ? 'common' : at.owner}`
}

/** Back to what the client began with. The owner follows as a comment, because the engine reads what it forwards. */
function reset(at: Situation): string {
  switch (at.random.weighted({ one: 3, default: 2, all: 1 })) {
    case 'one':
      return `reset ${setting(at)} --`
    case 'default':
      return `set ${setting(at)} to default --`
    default:
      return 'reset all --'
  }
}

/** Alone, because the engine does not know what becomes of prepared statements until it has been answered. */
function discard({ owner }: Situation): Step[] {
  return ['await', { kind: 'query', text: `discard all -- @${owner}` }, 'await']
}

/**
 * What a trigger sets, of which no text tells: it lasts until the end of the transaction, and neither this client nor
 * another finds it later. Not before the server was free: a BEGIN before it may have been canceled, and requests in one
 * pipeline have one server.
 */
function fire(at: Situation): Step[] {
  if (!at.strict) return either(at, 'select calm')
  const shown = either(at, 'show hidden')
  if (at.status === 'T') return [...either(at, 'fire'), 'await', ...shown]
  return at.random.chance(0.5) ? ['await', ...shown] : ['await', ...either(at, 'fire'), 'await', ...shown, 'await']
}

function show({ random }: Situation): string {
  return `show ${random.pick(['application_name', 'TimeZone', 'search_path', 'work_mem', 'role', 'listening'])}`
}

/** LISTEN pins the server until UNLISTEN; a client that leaves in between leaves that to the engine. */
function listen(at: Situation): Step[] {
  const steps: Step[] = [...either(at, 'listen'), 'await', ...either(at, 'show listening'), 'await']
  if (at.random.chance(0.5)) {
    const undone = `begin @${at.owner}; unlisten @${at.owner}; rollback @${at.owner}`
    steps.push({ kind: 'query', text: undone }, 'await', ...either(at, 'show listening'), 'await')
  }
  return [...steps, ...either(at, 'unlisten')]
}

/** One statement, in the simple or the extended protocol. */
function either(at: Situation, text: string): Step[] {
  if (at.random.chance(0.5)) return [{ kind: 'query', text: `${text} @${at.owner}` }]
  return [...extended(at, text), sync]
}

function extended({ random, owner }: Situation, text: string): Step[] {
  const steps: Step[] = [
    { kind: 'parse', name: '', text: `${text} @${owner}` },
    { kind: 'bind', portal: '', name: '', values: random.chance(0.3) ? [owner] : [] },
  ]
  if (random.chance(0.2)) steps.splice(1, 0, { kind: 'describe', what: 'S', name: '' })
  if (random.chance(0.4)) steps.push({ kind: 'describe', what: 'P', name: '' })
  if (random.chance(0.1)) steps.push(flush, 'await')
  const rowsMax = random.chance(0.2) ? random.size(10) : 0
  steps.push({ kind: 'execute', portal: '', rowsMax })
  if (rowsMax > 0 && random.chance(0.7)) steps.push({ kind: 'execute', portal: '', rowsMax: 0 })
  if (random.chance(0.1)) steps.push({ kind: 'close', what: 'P', name: '' })
  if (random.chance(0.1)) steps.push(flush, 'await')
  return steps
}

/** Several statements in one simple query, some of which may begin and end transactions. */
function several(at: Situation): Step[] {
  const count = at.random.integer(2, 5)
  const texts: string[] = []
  let inside = at.status === 'T'
  for (let index = 0; index < count; index++) {
    const flip = at.random.chance(0.3)
    if (flip) {
      texts.push(inside ? at.random.pick(['commit', 'rollback']) : 'begin')
      inside = !inside
    } else {
      texts.push(at.random.pick(['select a', 'select b', 'error', show(at), set(at), 'rows 2 10', 'notice']))
    }
  }
  return [{ kind: 'query', text: texts.map((text) => `${text} @${at.owner}`).join('; ') }]
}

/** Many statements in the extended protocol with few Syncs. */
function pipeline(at: Situation): Step[] {
  const steps: Step[] = []
  for (let left = at.random.integer(1, 6); left > 0; left--) {
    const text = at.random.weighted({
      'select p': 6,
      error: 1,
      'rows 3 20': 1,
      notice: 1,
      [show(at)]: 2,
      [set(at)]: 1,
      [reset(at)]: 1,
    })
    steps.push(...extended(at, text))
    // What follows a RESET before its Sync sees the server's values.
    if (at.random.chance(0.3) || text.endsWith('--')) steps.push(sync)
  }
  // After a Sync the unnamed statement may be on another server.
  if (at.random.chance(0.1) && steps.at(-1) !== sync) steps.push({ kind: 'describe', what: 'S', name: '' })
  return [...steps, sync]
}

/** A simple query in place of a Sync. */
function unsynced(at: Situation): Step[] {
  return [...extended(at, 'select u'), { kind: 'query', text: `select v @${at.owner}` }, sync]
}

/** Names that do not exist. */
function unknown({ random, owner }: Situation): Step[] {
  const steps: Request[] = [
    { kind: 'bind', portal: '', name: `none_${owner}`, values: [] },
    { kind: 'describe', what: 'S', name: `none_${owner}` },
    { kind: 'execute', portal: `none_${owner}`, rowsMax: 0 },
    { kind: 'close', what: 'S', name: `none_${owner}` },
  ]
  return [random.pick(steps), sync]
}

/** A named statement that is used repeatedly in one pipeline and then closed. */
function named(at: Situation): Step[] {
  // In session pooling it may stay, under a name that other clients use as well.
  const stays = at.session && at.random.chance(0.5)
  const name = stays ? 'sharedname' : `s_${at.owner}`
  const steps: Step[] = [{ kind: 'parse', name, text: `select n @${at.owner}` }]
  for (let left = at.random.integer(1, 3); left > 0; left--) {
    steps.push({ kind: 'bind', portal: '', name, values: [at.owner] }, { kind: 'execute', portal: '', rowsMax: 0 })
    if ((at.session || at.status === 'T') && at.random.chance(0.5)) steps.push(sync, 'await')
  }
  return stays ? [...steps, sync] : [...steps, { kind: 'close', what: 'S', name }, sync]
}

/** Few names, so that each is taken, used and missing many times. */
const names = ['p1', 'p2', 'p3', 'p4']

/** Statements that stay, with a text of their own or one that other clients prepare as well. */
function prepare(at: Situation): Step[] {
  if (!at.prepares) return pipeline(at)
  const { random, owner } = at
  const steps: Step[] = []
  for (let left = random.integer(1, 3); left > 0; left--) {
    const name = random.pick(names)
    const text = random.chance(0.7) ? `shared ${random.integer(1, 4)}` : `select mine @${owner}`
    if (random.chance(0.3)) steps.push({ kind: 'close', what: 'S', name })
    steps.push({ kind: 'parse', name, text })
    if (random.chance(0.5)) steps.push(...use(at, name))
    if (random.chance(0.2)) steps.push(sync)
  }
  return [...steps, sync]
}

function usePrepared(at: Situation): Step[] {
  if (!at.prepares) return either(at, 'select again')
  const { random } = at
  const known = random.chance(0.9) && at.prepared.length > 0 ? at.prepared : names
  const steps: Step[] = []
  for (let left = random.integer(1, 4); left > 0; left--) {
    steps.push(...use(at, random.pick(known)))
    if (random.chance(0.1)) steps.push(...extended(at, random.pick(['error', 'select between'])))
    if (random.chance(0.3)) steps.push(sync)
    if (random.chance(0.1)) steps.push(flush, 'await')
  }
  return [...steps, sync]
}

function use({ random, owner }: Situation, name: string): Step[] {
  const steps: Step[] = []
  if (random.chance(0.3)) steps.push({ kind: 'describe', what: 'S', name })
  steps.push({ kind: 'bind', portal: '', name, values: [owner] })
  if (random.chance(0.2)) steps.push({ kind: 'describe', what: 'P', name: '' })
  return [...steps, { kind: 'execute', portal: '', rowsMax: 0 }]
}

/**
 * Removes statements by Close or by DEALLOCATE. A DEALLOCATE is sent alone, because the engine does not know what a
 * name stands for until it has been answered.
 */
function forget(at: Situation): Step[] {
  if (!at.prepares) return [sync]
  const { random } = at
  const name = random.pick(names)
  const sql = random.chance(0.2) ? 'deallocate all' : `deallocate ${name}`
  switch (random.weighted({ close: 4, query: 1, extended: 1 })) {
    case 'close':
      return [{ kind: 'close', what: 'S', name }, sync]
    case 'query':
      return ['await', { kind: 'query', text: sql }, 'await']
    default:
      return [
        'await',
        { kind: 'parse', name: '', text: sql },
        { kind: 'bind', portal: '', name: '', values: [] },
        { kind: 'execute', portal: '', rowsMax: 0 },
        sync,
        'await',
      ]
  }
}

/** Leaves an unnamed statement for later work, which may run on another server. */
function parseUnnamed(at: Situation): Step[] {
  const { random, owner } = at
  const text = random.weighted({ select: 6, error: 1, 'rows 2 10': 1, [show(at)]: 1 })
  const steps: Step[] = [{ kind: 'parse', name: '', text: `${text === 'select' ? 'select later' : text} @${owner}` }]
  if (random.chance(0.3)) steps.push({ kind: 'describe', what: 'S', name: '' })
  if (random.chance(0.05)) steps.push({ kind: 'close', what: 'S', name: '' })
  return [...steps, sync]
}

/** Executes the unnamed statement of earlier work, or the lack of one. */
function useUnnamed(at: Situation): Step[] {
  const { random, unnamed } = at
  const follows = unnamed === null || /^(select|rows|show|error)/.test(unnamed)
  if (!at.prepares || !follows) return parseUnnamed(at)
  const steps: Step[] = []
  if (random.chance(0.2)) steps.push({ kind: 'describe', what: 'S', name: '' })
  steps.push({ kind: 'bind', portal: '', name: '', values: [] })
  if (random.chance(0.2)) steps.push({ kind: 'describe', what: 'P', name: '' })
  return [...steps, { kind: 'execute', portal: '', rowsMax: 0 }, sync]
}

/** Two portals of one transaction, read alternately. */
function portals(at: Situation): Step[] {
  const [a, b] = [`a_${at.owner}`, `b_${at.owner}`]
  const steps: Step[] = [{ kind: 'parse', name: '', text: `rows 6 10 @${at.owner}` }]
  for (const portal of [a, b]) steps.push({ kind: 'bind', portal, name: '', values: [] })
  for (let turn = 0; turn < 4; turn++) {
    steps.push({ kind: 'execute', portal: turn % 2 === 0 ? a : b, rowsMax: at.random.integer(1, 4) })
    if (at.random.chance(0.3)) steps.push(sync, 'await')
  }
  return [...steps, { kind: 'close', what: 'P', name: a }, { kind: 'close', what: 'P', name: b }, sync]
}

function copyIn(at: Situation): Step[] {
  const { random, owner } = at
  const simple = random.chance(0.5)
  const copy = random.chance(0.8) ? 'copyin' : 'copybroken'
  const steps: Step[] = simple
    ? [{ kind: 'query', text: `${copy} @${owner}` }]
    : [
        { kind: 'parse', name: '', text: `${copy} @${owner}` },
        { kind: 'bind', portal: '', name: '', values: [] },
        { kind: 'execute', portal: '', rowsMax: 0 },
      ]
  // The server ignores a Sync or Flush that is sent before the data.
  if (!simple && random.chance(0.5)) steps.push(random.chance(0.5) ? flush : sync)
  // When a copy fails at once, a proxy cannot tell which messages sent after such a Sync still belong to it.
  if (random.chance(0.6) || copy === 'copybroken') {
    if (!simple) steps.push(flush)
    steps.push('await')
  }
  for (let left = random.integer(0, 5); left > 0; left--) {
    const filler = '.'.repeat(random.size(random.chance(0.1) ? at.bytesMax : 100))
    steps.push({ kind: 'copyData', bytes: `${filler} @${owner}` })
    if (random.chance(0.1)) steps.push(flush)
  }
  steps.push({ kind: random.chance(0.8) ? 'copyDone' : 'copyFail' })
  if (!simple) steps.push(sync)
  return steps
}
