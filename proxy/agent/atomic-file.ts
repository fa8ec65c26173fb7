import { open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'

/** What the state folder keeps is for the proxy's own user alone. */
export const privateFileMode = 0o600

/**
 * Puts `bytes` in place of the file's content, all or nothing, even when the machine loses power: the new file is on
 * disk before it takes the name, and the name is on disk before this returns.
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
