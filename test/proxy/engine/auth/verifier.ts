import { createHash, createHmac, pbkdf2Sync } from 'node:crypto'
import type { ScramVerifier } from '../../../../proxy/spec.ts'

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

/** As PostgreSQL keeps it, and takes it for a password, whatever its version can be told about iterations. */
export function verifierText(password: string, iterations: number): string {
  const { salt, storedKey, serverKey } = verifierOf(password, Buffer.from('a salt of 16 by.'), iterations)
  const [saltText, storedText, serverText] = [salt, storedKey, serverKey].map((bytes) =>
    Buffer.from(bytes).toString('base64'),
  )
  return `SCRAM-SHA-256$${iterations}:${saltText}$${storedText}:${serverText}`
}
