/**
 * What a session may keep beyond its transaction that no ParameterStatus reports. Signs of it are seen in the tags of
 * CommandComplete and in the texts of requests; whether it is really kept (it may be rolled back, fail or be undone) is
 * queried once, at the end of the transaction. What a function does out of sight of both is not seen.
 */
import { stringEnd, text } from '../../protocol/read.ts'

/** Reasons to pin a server to its client; bits of a set. */
const Kept = {
  Listen: 1,
  AdvisoryLock: 2,
  TemporaryTable: 4,
  HoldCursor: 8,
  Prepare: 16,
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
  /** A setting that is not reported may have changed. */
  readonly settings: boolean
}

const everything = Kept.Listen | Kept.AdvisoryLock | Kept.TemporaryTable | Kept.HoldCursor | Kept.Prepare

function signs(begun: number, ended: number, settings = false): Signs {
  return { begun, ended, settings }
}

/** For a session that was not watched. */
export const anything = signs(everything, 0, true)

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
  ['DISCARD', signs(0, everything, true)],
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
 * Ends of the words to find in texts: advisory_lock, advisory_unlock, set_config, INTO TEMP, CREATE TEMP. They have
 * equal lengths, so that one scan finds any of them.
 */
const wordEnds = ['sory_lock', 'ry_unlock', 'et_config', 'into temp', 'eate temp'].map((word) => Buffer.from(word))
const wordBytes = 9

/** How far the scan advances after a byte (Horspool), and whether a word may end with it. */
const steps = new Uint8Array(256).fill(wordBytes)
const lasts = new Uint8Array(256)
for (const word of wordEnds) {
  for (const [index, letter] of word.entries()) {
    for (const either of [letter, letter & ~caseBit(letter)]) {
      if (index === wordBytes - 1) lasts[either] = 1
      else steps[either] = Math.min(steps[either] as number, wordBytes - 1 - index)
    }
  }
}

function caseBit(letter: number): number {
  return letter >= 0x61 && letter <= 0x7a ? 0x20 : 0
}

/** HOT. Whether a text contains one of the words; looks at about one byte in seven. */
function hasWord(bytes: Uint8Array, start: number, end: number): boolean {
  for (let at = start + wordBytes - 1; at < end;) {
    const byte = bytes[at] as number
    if (lasts[byte] === 1 && endsWord(bytes, at)) return true
    at += steps[byte] as number
  }
  return false
}

function endsWord(bytes: Uint8Array, last: number): boolean {
  return wordEnds.some((word) =>
    word.every((letter, index) => ((bytes[last - wordBytes + 1 + index] as number) | caseBit(letter)) === letter),
  )
}

const setsLocally = /\bset_config\s*\([^()]*,\s*(?:true|'t(?:rue)?')\s*\)/gi

/** HOT. Signs in the text of a request; null for nearly all. */
export function signsOfText(bytes: Uint8Array, start: number, end: number): Signs | null {
  if (!hasWord(bytes, start, end)) return null
  const sql = text(bytes, start, end)
  let begun = 0
  // The server is queried later: a word in a quote or comment costs only that query.
  if (/advisory_lock/i.test(sql)) begun |= Kept.AdvisoryLock
  if (/(?:into|create) temp/i.test(sql)) begun |= Kept.TemporaryTable
  const ended = /advisory_unlock/i.test(sql) ? Kept.AdvisoryLock : 0
  const calls = sql.match(/set_config/gi)?.length ?? 0
  const local = unquoted(sql)?.match(setsLocally)?.length ?? 0
  return signs(begun, ended, calls > local)
}

/** The text with empty quotes; null if finding them takes more than this: comments, escapes, dollar quotes. */
function unquoted(sql: string): string | null {
  if (/\\|--|\/\*/.test(sql)) return null
  // In one pass: either kind of quote may contain the other.
  const plain = sql.replace(/'(?:[^']|'')*'|"(?:[^"]|"")*"/g, (quoted) => (quoted.startsWith("'") ? "'t'" : '""'))
  return /\$(?!\d)/.test(plain) ? null : plain
}

const letterB = 0x62
const lowerS = 0x73
const lowerT = 0x74
/** "BEGIN;" and a blank: anything shorter is a BEGIN alone. */
const beginBytes = 8

/** HOT. Whether a simple query may contain a SET: it begins with one, or with a BEGIN followed by something. */
export function maySet(bytes: Uint8Array, start: number, end: number): boolean {
  const first = (bytes[start] as number) | 0x20
  if (first === lowerS) return ((bytes[start + 2] as number) | 0x20) === lowerT
  if (first === letterB) return end - start > beginBytes
  return (bytes[start] as number) <= 0x20
}

/**
 * For each SET in a query, in order, whether it leaves nothing untracked: it is LOCAL, or its parameter is in
 * `followed`. Empty if that cannot be determined.
 */
export function harmlessSets(sql: string, followed: (name: string) => boolean): boolean[] {
  const plain = unquoted(sql)
  if (plain === null) return []
  const harmless: boolean[] = []
  for (const statement of plain.split(';')) {
    const set = /^\s*set\s+(?:(local|transaction)\b|(?:session\s+)?(time\s+zone|[\w.]+|""))/i.exec(statement)
    if (set === null) continue
    // A quoted name is empty here, and followed by none.
    const name = (set[2] ?? '').toLowerCase()
    if (name === 'constraints') continue
    harmless.push(set[1] !== undefined || followed(longName(name)))
  }
  return harmless
}

function longName(name: string): string {
  if (name.startsWith('time')) return 'timezone'
  return name === 'names' ? 'client_encoding' : name
}

/** Undoes SET, SET ROLE and SET SESSION AUTHORIZATION only: prepared statements are kept. */
export const resetSettings = 'SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL'
