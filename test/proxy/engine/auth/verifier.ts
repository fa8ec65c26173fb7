import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import type { ScramVerifier } from '../../../../proxy/engine/messages.ts'

/** RFC 5802, 3. */
export function verifierOf(password: string, salt: Uint8Array, iterations = 4096): ScramVerifier {
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256')
  const clientKey = createHmac('sha256', salted).update('Client Key').digest()
  return {
    iterations,
    salt,
    storedKey: createHash('sha256').update(clientKey).digest(),
    serverKey: createHmac('sha256', salted).update('Server Key').digest(),
  }
}
