import { isIdentity } from './parameters.ts'
import type { Parameters } from './parameters.ts'
import { bothChanges, takesBack } from './settings-text.ts'
import type { SettingsChange } from './settings-text.ts'

/** What a client began with and has reset: for its session, and for the open transaction. */
export interface StartupValues {
  readonly session: ReadonlyMap<string, string>
  readonly local: ReadonlyMap<string, string>
}

/**
 * What a server is known to have been told about its settings since they were last known: by the texts of requests, and
 * by the tags with which it answered.
 */
export class SettingsWatch {
  /** HOT. Something was noted since it was cleared; nearly always nothing is. */
  dirty = false
  #change: SettingsChange | null = null
  /** What was noted since the last ReadyForQuery with nothing owed, for the settings that a RESET brings back. */
  #recent: SettingsChange | null = null
  #reset = false
  /** Something was rolled back since the last ReadyForQuery, by an error too. */
  #rolledBack = false
  /** Commands that were answered with a tag of words alone: all but those that count rows. */
  #tags = 0
  #sets = 0
  #failed = false
  #blocks = false

  /** Null if no setting can have changed. */
  get change(): SettingsChange | null {
    return this.#change
  }

  /** A request with this text, or a statement with it, is forwarded. */
  note(change: SettingsChange): void {
    this.dirty = true
    this.#change = bothChanges(this.#change, change)
    this.#recent = bothChanges(this.#recent, change)
  }

  /** HOT. Settings may have been brought back since the last ReadyForQuery with nothing in flight. */
  get resets(): boolean {
    return this.#recent !== null && takesBack(this.#recent)
  }

  /**
   * At a ReadyForQuery: the settings of `startup` that were brought back to the values of a server's session since the
   * last one. None if it failed: then nothing was.
   */
  startupValues(startup: Parameters, initial: ReadonlyMap<string, string>): StartupValues {
    const change = this.#recent
    const executed = this.#reset && !this.#rolledBack
    if (change === null || !executed) return { session: new Map(), local: new Map() }
    const others = [...startup.values].filter(([name, value]) => initial.get(name) !== value)
    const taken = others.filter(([name]) => {
      if (change.resets.has(name)) return true
      return change.resetsAll && !change.setLast.has(name) && !isIdentity(name)
    })
    return { session: new Map(taken), local: new Map(others.filter(([name]) => change.resetsLocally.has(name))) }
  }

  /** HOT. A command was answered without a number of rows. */
  tagged(isRollback: boolean): void {
    this.dirty = true
    this.#tags++
    if (isRollback) this.#rolledBack = true
  }

  /** A SET, RESET or DISCARD ALL was executed; `unseen` is what it may have done if no text has told. */
  set(unseen: SettingsChange): void {
    this.dirty = true
    this.#sets++
    this.#reset ||= this.resets
    this.#change ??= unseen
  }

  /** Everything was brought back to what a session begins with, also what is unknown. */
  allReset(): void {
    if (this.#change !== null) this.#change = { ...this.#change, unknown: false, text: null }
  }

  /** HOT. */
  failed(): void {
    this.dirty = true
    this.#failed = true
    this.#rolledBack = true
  }

  /** HOT. ReadyForQuery: in a transaction block or not, and with further requests in flight or not. */
  ready(inBlock: boolean, isLast: boolean): void {
    if (inBlock) {
      this.dirty = true
      this.#blocks = true
    }
    this.#rolledBack = false
    if (!isLast) return
    this.#recent = null
    this.#reset = false
  }

  /** HOT. */
  clear(): void {
    if (!this.dirty) return
    this.dirty = false
    this.#change = null
    this.#recent = null
    this.#reset = false
    this.#rolledBack = false
    this.#tags = 0
    this.#sets = 0
    this.#failed = false
    this.#blocks = false
  }

  /** The text, if it was executed alone, is nothing but SETs, and each was answered "SET"; otherwise null. */
  get text(): string | null {
    const change = this.#change
    if (change === null || change.text === null || this.#failed || this.#blocks) return null
    return this.#sets === change.sets && this.#tags === change.sets ? change.text : null
  }

  /**
   * All that was noted is known to have been executed and kept: there was no error, no transaction block and nothing
   * that brings a setting back.
   */
  get certain(): boolean {
    return this.text !== null
  }
}
