/** Files of Unix sockets: whoever has opened one may find somebody else's at its path later. */
import { lstatSync, unlinkSync } from 'node:fs'

/** Which file it is; null when there is none. */
export function identityOf(path: string): string | null {
  const found = lstatSync(path, { bigint: true, throwIfNoEntry: false })
  return found === undefined ? null : `${found.dev} ${found.ino} ${found.birthtimeNs}`
}

/** Removes the file, unless another one has taken its path. */
export function removeFile(path: string, identity: string | null): void {
  if (identity !== null && identityOf(path) === identity) unlinkSync(path)
}
