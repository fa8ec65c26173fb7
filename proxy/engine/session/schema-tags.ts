/**
 * Commands after which a statement may have other types than before, by their tags (manual, "CommandComplete"). What a
 * function changes has no tag of its own: DO is counted, because migrations use it; CALL and SELECT are not, because
 * applications use them all the time.
 */
import { stringEnd, text } from '../../protocol/read.ts'

const letterA = 0x41
const letterC = 0x43
const letterD = 0x44
const letterI = 0x49
const letterL = 0x4c
const letterM = 0x4d
const letterO = 0x4f
const letterR = 0x52

/** CREATE TABLE, ALTER TYPE and so on; others count by their whole tag. */
const words = /^(?:CREATE|ALTER|DROP) |^(?:DO|IMPORT FOREIGN SCHEMA|COMMIT PREPARED)$/

/** HOT. `bytes` from `start` are the tag, which does not end with a digit. */
export function changesSchema(bytes: Uint8Array, start: number, end: number): boolean {
  if (!mayChangeSchema(bytes[start] as number, bytes[start + 1] as number, end - start)) return false
  return words.test(text(bytes, start, stringEnd(bytes, start, end)))
}

/** HOT. Not so for BEGIN, COMMIT, ROLLBACK and SET, which are nearly all that come here. */
function mayChangeSchema(first: number, second: number, length: number): boolean {
  switch (first) {
    case letterA:
      return second === letterL
    case letterC:
      return second === letterR || (second === letterO && length > commitBytes)
    case letterD:
      return second === letterR || second === letterO
    case letterI:
      return second === letterM
    default:
      return false
  }
}

/** COMMIT with its NUL. */
const commitBytes = 7
