import { saslprep } from '@mongodb-js/saslprep'

/**
 * A password as SCRAM uses it (RFC 4013 SASLprep). As in PostgreSQL, one that SASLprep forbids is used as it is.
 */
export function preparePassword(password: string): string {
  try {
    return saslprep(password, { allowUnassigned: true }) || password
  } catch {
    return password
  }
}
