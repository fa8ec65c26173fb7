import { saslprep } from '@mongodb-js/saslprep'

/** Prepares a password for SCRAM (RFC 4013 SASLprep). As in PostgreSQL, one that SASLprep prohibits is used unchanged. */
export function preparePassword(password: string): string {
  try {
    return saslprep(password, { allowUnassigned: true }) || password
  } catch {
    return password
  }
}
