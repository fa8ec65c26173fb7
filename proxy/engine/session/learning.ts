/**
 * After a transaction whose texts may have changed settings, the server is queried for their values. The question is
 * written so that no setting of the client changes its meaning; where one could cancel it or make it wait, it is queried in
 * a transaction of its own, in which such settings are read first and then put out of effect.
 */
import { int16, int32 } from '../../protocol/read.ts'
import * as write from '../../protocol/write.ts'
import { hostile, isIdentity } from './parameters.ts'
import type { Parameters } from './parameters.ts'
import type { SettingsChange } from './settings-text.ts'

/** What a client's session had before the transaction, and what is known of the transaction. */
export interface Known {
  readonly before: Parameters
  readonly change: SettingsChange
  /** Everything in `change` was executed and kept. */
  readonly certain: boolean
  /** What the client began with. */
  readonly startup: Parameters
  /** The role with which the server logged in. */
  readonly serverUser: string
  /** Whether PostgreSQL reports a parameter, so that its value is known. */
  readonly follows: (name: string) => boolean
}

/** The client's settings after the transaction, and the server's. */
export interface Learned {
  readonly client: Parameters
  readonly server: Parameters
  /** A new idle_session_timeout, which the proxy keeps for the client; null if it was not set. */
  readonly idleTimeoutMs: number | null
}

/** Settings that cancel a statement or compile it: read, then put out of effect. */
const disarmed = ['statement_timeout', 'jit'] as const

/** Kept by the proxy for its client, never by a server that has none. */
export const idleTimeout = 'idle_session_timeout'

const unitsMs: Readonly<Record<string, number>> = { '': 1, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }

/** A duration as PostgreSQL shows or reads it, in milliseconds where it has no unit; 0 if it is none. */
export function durationMs(text: string): number {
  const [, number = '', unit = ''] = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)?\s*$/.exec(text) ?? []
  return Math.round(Number(number) * (unitsMs[unit] ?? 0))
}

export class Learning {
  readonly #known: Known
  readonly #names: readonly string[]
  /** Asked in a transaction of its own. */
  readonly #guarded: boolean
  readonly #rows: (string | null)[][] = []

  constructor(known: Known) {
    const { change, before, startup, follows } = known
    this.#known = known
    const names = new Set(change.names)
    if (change.resetsAll) for (const name of [...before.values.keys(), ...startup.values.keys()]) names.add(name)
    this.#names = [...names].filter((name) => !follows(name))
    this.#guarded =
      !known.certain || [...names, ...before.values.keys()].some((name) => hostile.has(name)) || this.#remade.length > 0
  }

  /** Nothing has to be queried. */
  get empty(): boolean {
    return this.#names.length === 0
  }

  /** Settings made under a role that may do what the login role may not. */
  get #remade(): string[] {
    const { before, change } = this.#known
    if (!change.names.has('role') && !before.values.has('role')) return []
    if (change.names.has('session_authorization') || before.values.has('session_authorization')) return []
    return this.#names.filter((name) => !isIdentity(name) && !hostile.has(name))
  }

  get messages(): Buffer {
    const asked = write.currentSettings(this.#names, !this.#known.certain)
    if (!this.#guarded) {
      return this.#timesIdleness ? Buffer.concat([asked, write.query(`RESET ${idleTimeout}`)]) : asked
    }
    const begin = [
      'BEGIN ISOLATION LEVEL READ COMMITTED',
      ...disarmed.map((name) => `SHOW ${name}`),
      'SET LOCAL statement_timeout = 0',
      'SET LOCAL jit = off',
    ]
    const parts = [write.query(begin.join('; ')), asked]
    const remade = this.#remade
    if (remade.length > 0) parts.push(write.query('SET LOCAL ROLE NONE'), write.remakeSettings(remade))
    parts.push(write.query('COMMIT'))
    if (this.#timesIdleness) parts.push(write.query(`RESET ${idleTimeout}`))
    return Buffer.concat(parts)
  }

  /** PostgreSQL would end a server of the pool that waits for its next client. */
  get #timesIdleness(): boolean {
    return this.#names.includes(idleTimeout)
  }

  /** Number of ReadyForQuery messages with which they are answered. */
  get owed(): number {
    const further = this.#timesIdleness ? 1 : 0
    if (!this.#guarded) return 1 + further
    return (this.#remade.length > 0 ? 5 : 3) + further
  }

  /** The messages are sent, for the first time or again. */
  begin(): void {
    this.#rows.length = 0
  }

  row(bytes: Uint8Array, start: number): void {
    this.#rows.push(columnsOf(bytes, start))
  }

  /** Null if the client can have its settings on this server only. */
  get outcome(): Learned | null {
    const first = this.#guarded ? this.#rows.splice(0, disarmed.length).map((row) => row[0] ?? null) : []
    const values = this.#rows[0]
    if (values === undefined) return null
    const { before, startup, certain } = this.#known
    const set = new Set((certain ? '' : (values[this.#names.length] ?? '')).split(','))
    let [client, server] = [before, before]
    let idleTimeoutMs: number | null = null
    for (const [index, name] of this.#names.entries()) {
      const armed = this.#guarded ? (disarmed as readonly string[]).indexOf(name) : -1
      const shown = (armed < 0 ? values[index] : first[armed]) ?? null
      const isSet = certain || isIdentity(name) || name.includes('.') || set.has(name)
      const exact = shown === null || !isSet ? null : this.#exactly(name, shown)
      if (exact === undefined) return null
      if (name === idleTimeout) {
        idleTimeoutMs = exact === null ? 0 : durationMs(exact)
        continue
      }
      const value = isSet && exact !== this.#neutral(name) ? exact : null
      server = server.with(name, value)
      // A role that the client began with is not given up by a SET ROLE NONE.
      const given = isSet && startup.values.has(name) ? exact : value
      client = client.with(name, given ?? startup.values.get(name) ?? null)
    }
    return { client, server, idleTimeoutMs }
  }

  #exactly(name: string, shown: string): string | undefined {
    const { before, change } = this.#known
    return exactly(name, shown, [before.values.get(name), change.literals.get(name)])
  }

  /** The value of a role that has not been set. */
  #neutral(name: string): string | null {
    if (name === 'role') return 'none'
    return name === 'session_authorization' ? this.#known.serverUser : null
  }
}

/** DataRow: Int16 number of columns, { Int32 length (-1 for NULL), value } … */
function columnsOf(bytes: Uint8Array, start: number): (string | null)[] {
  const columns: (string | null)[] = []
  let at = start + 2
  for (let left = int16(bytes, start); left > 0; left--) {
    const length = int32(bytes, at)
    at += 4
    if (length < 0) {
      columns.push(null)
      continue
    }
    columns.push(Buffer.from(bytes.subarray(at, at + length)).toString())
    at += length
  }
  return columns
}

/** Floating-point values are shown with this many digits, and may have more. */
const shownDigits = 6

/** Parameters whose values are floating-point numbers; those of extensions are unknown. */
const floats =
  /_cost$|_fraction$|^geqo_s|_factor$|_multiplier$|_rate$|_delay$|cost_limit$|^parallel_|^recursive_|^autovacuum|\./

/**
 * The value that sets a parameter to what is `shown`: one that it is known to have been set to. Undefined if the digits
 * shown are not all that it has, and none or several of those values are shown like that.
 */
function exactly(name: string, shown: string, values: readonly (string | undefined)[]): string | undefined {
  if (!floats.test(name) || digitsIn(shown) !== shownDigits) return shown
  const possible = new Set(values.filter((value) => value !== undefined && isShownAs(value, shown)))
  const [value] = possible
  return possible.size === 1 ? value : undefined
}

function isShownAs(value: string, shown: string): boolean {
  if (value === shown) return true
  const number = Number(value)
  return Number.isFinite(number) && Number(number.toPrecision(shownDigits)) === Number(shown)
}

/** Significant digits of a number, with a unit or without; 0 for anything else. */
function digitsIn(text: string): number {
  const number = /^-?(\d*\.?\d*)(?:e[+-]?\d+)?\s*[a-z]{0,3}$/i.exec(text)?.[1]
  return number === undefined ? 0 : number.replace('.', '').replace(/^0+/, '').length
}

/** What texts of nothing but SETs have made of settings: equal for all clients of one server set. */
export class LearnedTexts {
  readonly #byText = new Map<string, Learned>()

  get(before: Parameters, text: string): Learned | undefined {
    return this.#byText.get(`${before.key}\0${text}`)
  }

  set(before: Parameters, text: string, learned: Learned): void {
    if (text.length > learnedTextMax) return
    if (this.#byText.size >= learnedTextsMax) this.#byText.clear()
    this.#byText.set(`${before.key}\0${text}`, learned)
  }
}

const learnedTextMax = 1000
const learnedTextsMax = 1000
