/**
 * What a session may keep beyond its transaction that no ParameterStatus reports. Signs of it are seen in the tags of
 * CommandComplete and in the texts of requests; whether it is really kept (it may be rolled back, fail or be undone) is
 * queried once, at the end of the transaction. What a function does out of sight of both is not seen.
 */
import { stringEnd, text } from '../../protocol/read.ts'
import { noChange, settingsChangedBy } from './settings-text.ts'
import type { SettingsChange } from './settings-text.ts'

/** Reasons to pin a server to its client; bits of a set. */
export const Kept = {
  Listen: 1,
  AdvisoryLock: 2,
  TemporaryTable: 4,
  HoldCursor: 8,
  Prepare: 16,
  /** Settings that cannot be learned, or made again on another server. */
  Settings: 32,
  /** Random numbers that begin with the client's seed. */
  Seed: 64,
} as const

interface KeptThing {
  readonly bit: number
  /** As shown to operators. */
  readonly reason: string
  /** Whether the session has any. Fully qualified, because the client may have set any search path. */
  readonly probe: string
}

const keptThings: readonly KeptThing[] = [
  {
    bit: Kept.Listen,
    reason: 'listen',
    probe: 'EXISTS (SELECT FROM pg_catalog.pg_listening_channels())',
  },
  {
    bit: Kept.AdvisoryLock,
    reason: 'advisory_lock',
    probe:
      'EXISTS (SELECT FROM pg_catalog.pg_locks' +
      ` WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())`,
  },
  {
    bit: Kept.TemporaryTable,
    reason: 'temporary_table',
    probe:
      'pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0 AND EXISTS (SELECT FROM pg_catalog.pg_class' +
      ' WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())',
  },
  {
    bit: Kept.HoldCursor,
    reason: 'hold_cursor',
    probe: 'EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)',
  },
  {
    bit: Kept.Prepare,
    reason: 'prepare',
    probe: 'EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)',
  },
  {
    bit: Kept.Settings,
    reason: 'settings',
    // Asked after a DISCARD ALL only.
    probe: 'false',
  },
  {
    bit: Kept.Seed,
    reason: 'seed',
    probe: 'true',
  },
]

/** "listen, prepare" */
export function reasonsOf(kept: number): string {
  return keptThings
    .filter(({ bit }) => (kept & bit) !== 0)
    .map(({ reason }) => reason)
    .join(', ')
}

/** One row with a boolean column for each bit in `asked`, in order. */
export function probeOf(asked: number): string {
  return `SELECT ${keptThings
    .filter(({ bit }) => (asked & bit) !== 0)
    .map(({ probe }) => probe)
    .join(', ')}`
}

const trueCharacter = 0x74 // t
const columnBytes = 5

/** The bits of `asked` that are true in the DataRow answering `probeOf(asked)`. */
export function foundBy(asked: number, bytes: Uint8Array, start: number): number {
  let found = 0
  // Int16 number of columns; then for each Int32 length, which is 1, and "t" or "f".
  let at = start + 2
  for (const { bit } of keptThings) {
    if ((asked & bit) === 0) continue
    if (bytes[at + columnBytes - 1] === trueCharacter) found |= bit
    at += columnBytes
  }
  return found
}

/** What a tag or text tells about the session. */
export interface Signs {
  /** It may be kept now. */
  readonly begun: number
  /** It may have ended, if it was kept. */
  readonly ended: number
  /** A tag tells that a setting has changed. */
  readonly set: boolean
  /** A text that may change settings; null for a tag, and for nearly all texts. */
  readonly change: SettingsChange | null
}

const everything = Kept.Listen | Kept.AdvisoryLock | Kept.TemporaryTable | Kept.HoldCursor | Kept.Prepare

function signs(begun: number, ended: number, set = false): Signs {
  return { begun, ended, set, change: null }
}

/** A setting has changed, and no text tells which. */
export const unseenChange: SettingsChange = { ...noChange, unknown: true }

/** For a session that was not watched. */
export const anything: Signs = { begun: everything, ended: 0, set: false, change: unseenChange }

/** By the first word of a tag, or by the whole tag if it is listed. */
const signsOfTags = new Map<string, Signs>([
  ['SET', signs(0, 0, true)],
  ['RESET', signs(0, 0, true)],
  ['LISTEN', signs(Kept.Listen, 0)],
  ['UNLISTEN', signs(0, Kept.Listen)],
  ['PREPARE', signs(Kept.Prepare, 0)],
  ['PREPARE TRANSACTION', signs(0, 0)],
  ['DEALLOCATE', signs(0, Kept.Prepare)],
  ['DECLARE CURSOR', signs(Kept.HoldCursor, 0)],
  ['CLOSE', signs(0, Kept.HoldCursor)],
  ['CREATE', signs(Kept.TemporaryTable, 0)],
  ['DROP', signs(0, Kept.TemporaryTable)],
  ['ALTER', signs(0, Kept.TemporaryTable)],
  ['DISCARD', signs(0, everything)],
  ['DISCARD ALL', signs(0, everything | Kept.Settings, true)],
  ['SET CONSTRAINTS', signs(0, 0)],
])

const letterC = 0x43
const letterD = 0x44
const letterL = 0x4c
const letterP = 0x50
const letterR = 0x52
const letterS = 0x53
const letterU = 0x55
const letterA = 0x41

/**
 * HOT. Signs in a tag without a final digit, which those of SELECT, INSERT, UPDATE and DELETE have; null for BEGIN,
 * COMMIT, ROLLBACK and others that leave nothing.
 */
export function signsOfTag(bytes: Uint8Array, start: number, end: number): Signs | null {
  switch (bytes[start]) {
    case letterC:
      if (bytes[start + 1] === letterO) return null // COMMIT, COMMENT
      break
    case letterR:
      if (bytes[start + 1] === letterO) return null // ROLLBACK
      break
    case letterA:
    case letterD:
    case letterL:
    case letterP:
    case letterS:
    case letterU:
      break
    default:
      return null
  }
  const tag = text(bytes, start, stringEnd(bytes, start, end))
  return signsOfTags.get(tag) ?? signsOfTags.get(tag.split(' ', 1)[0] as string) ?? null
}

const letterO = 0x4f

/**
 * Ends of the words to find in texts: advisory_lock, advisory_unlock, set_config, setseed, INTO TEMP, CREATE TEMP. They
 * have equal lengths, so that one scan finds any of them.
 */
const wordEnds = ['ry_lock', '_unlock', '_config', 'setseed', 'to temp', 'te temp'].map((word) => Buffer.from(word))
const wordBytes = 7

/**
 * By two bytes that follow each other: how far the scan advances (Horspool's rule for pairs), 0 where a word may end with
 * them. A pair is found by the five low bits of each, which are equal for both cases of a letter; others that share them
 * only make a step shorter.
 */
const steps = new Uint8Array(1024).fill(wordBytes - 1)
for (const word of wordEnds) {
  for (let last = 1; last < wordBytes; last++) {
    const pair = pairAt(word.readUint16LE(last - 1))
    steps[pair] = Math.min(steps[pair] as number, wordBytes - 1 - last)
  }
}

/** HOT. */
function pairAt(two: number): number {
  return ((two >>> 3) & 0x3e0) | (two & 0x1f)
}

function caseBit(letter: number): number {
  return letter >= 0x61 && letter <= 0x7a ? 0x20 : 0
}

/** Nearly always the loop's one buffer, of which several bytes are read at once. */
let viewed: Uint8Array = new Uint8Array(0)
let view = new DataView(viewed.buffer)

/** HOT. */
function viewOf(bytes: Uint8Array): DataView {
  if (bytes !== viewed) {
    viewed = bytes
    view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }
  return view
}

/** HOT. Whether a text contains one of the words; looks at about one pair in five bytes. */
function hasWord(bytes: Uint8Array, start: number, end: number): boolean {
  const pairs = viewOf(bytes)
  for (let at = start + wordBytes - 1; at < end;) {
    const step = steps[pairAt(pairs.getUint16(at - 1, true))] as number
    if (step > 0) at += step
    else if (endsWord(bytes, at)) return true
    else at++
  }
  return false
}

function endsWord(bytes: Uint8Array, last: number): boolean {
  return wordEnds.some((word) =>
    word.every((letter, index) => ((bytes[last - wordBytes + 1 + index] as number) | caseBit(letter)) === letter),
  )
}

/** HOT. Signs in the text of a request; null for nearly all. A `simple` query may consist of several statements. */
export function signsOfText(bytes: Uint8Array, start: number, end: number, simple = false): Signs | null {
  const found = hasWord(bytes, start, end)
  if (!found && !maySet(bytes, start, end, simple)) return null
  let begun = 0
  let ended = 0
  if (found) {
    const sql = text(bytes, start, end)
    // The server is queried later: a word in a quote or comment costs only that query.
    if (/advisory_lock/i.test(sql)) begun |= Kept.AdvisoryLock
    if (/(?:into|create) temp/i.test(sql)) begun |= Kept.TemporaryTable
    if (/advisory_unlock/i.test(sql)) ended |= Kept.AdvisoryLock
  }
  const change = settingsChangedBy(inLatin1(bytes, start, stringEnd(bytes, start, end)))
  if (begun === 0 && ended === 0 && change === null) return null
  return { begun, ended, set: false, change }
}

const lowerB = 0x62
const lowerD = 0x64
const lowerI = 0x69
const lowerO = 0x6f
const lowerR = 0x72
const lowerS = 0x73
const lowerT = 0x74
const letterCase = 0x20
const semicolon = 0x3b
const fourSemicolons = 0x3b3b3b3b
/** "BEGIN;" and a blank: anything shorter is a BEGIN alone. */
const beginBytes = 8

/** The letters of ASCII are what they are; others may be of any encoding. */
function inLatin1(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1')
}

/** HOT. Whether a text may contain SET, RESET, DISCARD or DO, by the beginning of its first statement. */
export function maySet(bytes: Uint8Array, from: number, end: number, simple: boolean): boolean {
  const start = afterBlanks(bytes, from, end)
  const first = (bytes[start] as number) | letterCase
  const second = (bytes[start + 1] as number) | letterCase
  const third = (bytes[start + 2] as number) | letterCase
  if (first === lowerS && third === lowerT) return true
  if (first === lowerR && third === lowerS) return true
  if (first === lowerD && (second === lowerI || second === lowerO)) return true
  if (!simple) return false
  if (first === lowerB && end - start <= beginBytes) return false
  return hasSecondStatement(bytes, start, end)
}

const dash = 0x2d
const slash = 0x2f
const star = 0x2a
const newline = 0x0a

/** HOT. After blanks and comments; within a comment that contains another. */
function afterBlanks(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  while (at < end) {
    if ((bytes[at] as number) <= 0x20) at++
    else if (bytes[at] === dash && bytes[at + 1] === dash) {
      while (at < end && bytes[at] !== newline) at++
    } else if (bytes[at] === slash && bytes[at + 1] === star) {
      at += 2
      while (at < end && (bytes[at] !== star || bytes[at + 1] !== slash)) at++
      at += 2
    } else break
  }
  return at
}

/** HOT. A semicolon that is not the end of the text. */
function hasSecondStatement(bytes: Uint8Array, start: number, end: number): boolean {
  // Before the last character, which may be a semicolon, and the NUL.
  const last = end - 2
  const fours = viewOf(bytes)
  let at = start
  for (; at + 8 <= last; at += 8) {
    const one = fours.getInt32(at, true) ^ fourSemicolons
    const other = fours.getInt32(at + 4, true) ^ fourSemicolons
    if (hasZeroByte(one) || hasZeroByte(other)) return true
  }
  for (; at < last; at++) if (bytes[at] === semicolon) return true
  return false
}

/** HOT. A byte of 0 is the only one from which 1 borrows its highest bit. */
function hasZeroByte(four: number): boolean {
  return ((four - 0x01010101) & ~four & 0x80808080) !== 0
}

const leavesNothing = /^\s*(?:begin|start\s+transaction|commit|end|rollback|abort|savepoint|release|set|show)\b[^']*$/i

/** Whether a text consists of statements that execute no code of the database: nothing unseen can be left by it. */
export function runsNothing(bytes: Uint8Array, start: number, end: number): boolean {
  const sql = inLatin1(bytes, start, stringEnd(bytes, start, end))
  return sql.split(';').every((statement) => statement.trim() === '' || leavesNothing.test(statement))
}

/**
 * Brings a session to its beginning, whatever has been done in it, but for prepared statements: the second query runs
 * under the settings that the first has reset.
 */
export const resetSession: readonly string[] = [
  'SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD SEQUENCES; DISCARD TEMP',
  'SELECT pg_catalog.pg_advisory_unlock_all()',
]

/** Undoes SET, SET ROLE and SET SESSION AUTHORIZATION only: prepared statements are kept. */
export const resetSettings = 'SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL'
