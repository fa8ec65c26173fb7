/**
 * Unknown users are challenged like known ones, at the same cost and with the same errors, so that guessing does not
 * reveal which users exist.
 */
import { createHmac } from 'node:crypto'
import type { ClientSecret, PreviousSecret } from '../../spec.ts'
import { mockVerifier } from './scram.ts'

/**
 * The secret for an unknown `user`: no answer is correct. Constant under one key, and in the forms that the secret
 * `like` has; null stands for a plain password.
 */
export function mockSecret(mockKey: Uint8Array, user: string, like: ClientSecret | null): ClientSecret {
  const made = (label: string): Buffer => createHmac('sha256', mockKey).update(`${label} ${user}`).digest()
  const hasMd5 = like === null || like.md5 !== null
  const hasScram = like === null || like.scram !== null
  const hasDigest = like === null || like.digest !== undefined
  return {
    md5: hasMd5 ? `md5${made('md5').toString('hex', 0, md5Bytes)}` : null,
    scram: hasScram ? mockVerifier(mockKey, user, like?.scram ?? undefined) : null,
    ...(hasDigest ? { digest: made('digest') } : {}),
    ...(like?.previous === undefined ? {} : { previous: mockPrevious(mockKey, user, like.previous) }),
  }
}

/** The verifier has the salt of the secret it belongs to, otherwise it would be another exchange. */
function mockPrevious(mockKey: Uint8Array, user: string, like: PreviousSecret): PreviousSecret {
  const other = createHmac('sha256', mockKey).update('previous').digest()
  const stand = mockSecret(other, user, like)
  const { untilMs } = like
  return { ...stand, untilMs }
}

const md5Bytes = 16
