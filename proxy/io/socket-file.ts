/** Files of Unix sockets: another process may have replaced the file of a socket. */
import { lstatSync, unlinkSync } from 'node:fs'

/** Identity of the file; null if there is none. */
export function identityOf(path: string): string | null {
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  return found === undefined ? null : `${found.dev} ${found.ino} ${found.birthtimeNs}`
}

/** Removes the file unless it has been replaced. */
export function removeFile(path: string, identity: string | null): void {
  if (identity !== null && identityOf(path) === identity) unlinkSync(path)
}
