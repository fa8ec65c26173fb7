/**
 * The result columns of a statement, as far as PostgreSQL requires them to stay the same while it is prepared: if they
 * change, it rejects the statement with 0A000 (plancache.c, RevalidateCachedQuery). A client decodes rows by the
 * description it was last told, so it must be rejected too if another server would describe them differently.
 */
import { int16, stringEnd } from '../../protocol/read.ts'
import { BackendTag } from '../../protocol/tags.ts'
import * as write from '../../protocol/write.ts'

/** Int32 table, Int16 column, Int32 type, Int16 length, Int32 modifier, Int16 format (manual, RowDescription). */
const fieldBytes = 18
const typeAt = 6
const formatAt = 16

/**
 * Names, types, lengths and modifiers of the columns; not their origin, and not the format, which a Bind chooses. Equal
 * texts are equal descriptions; the empty text is NoData's. `bytes` from `start` to `end` are the body.
 */
export function descriptionOf(tag: number, bytes: Uint8Array, start: number, end: number): string {
  if (tag === BackendTag.NoData) return ''
  const parts: string[] = []
  let at = start + 2
  for (let left = int16(bytes, start); left > 0 && at < end; left--) {
    const nameEnd = stringEnd(bytes, at, end)
    const fields = nameEnd + 1
    parts.push(latin1(bytes, at, nameEnd), latin1(bytes, fields + typeAt, fields + formatAt))
    at = fields + fieldBytes
  }
  return parts.join('\0')
}

function latin1(bytes: Uint8Array, start: number, end: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString('latin1')
}

/** PostgreSQL's error when the result columns of a prepared statement have changed. */
export const descriptionChanged = write.errorResponse({
  severity: 'ERROR',
  code: '0A000',
  message: 'cached plan must not change result type',
  routine: 'RevalidateCachedQuery',
})
