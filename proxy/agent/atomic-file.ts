import { open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Files of the state directory are accessible to the proxy's user only. */
export const privateFileMode = 0o600

/**
 * Replaces the content of a file atomically, also on power loss: the new file is synced before the rename, and the
 * directory before this returns.
 */
export async function replaceFile(path: string, bytes: string | Uint8Array): Promise<void> {
  const temporary = `${path}.new`
  const file = await open(temporary, 'w', privateFileMode)
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(temporary, path)
  await syncFolder(dirname(path))
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
