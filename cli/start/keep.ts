/** What `npm start` keeps in its data directory between runs: secrets in files of mode 0600, and a lock. */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { tokenCreatedSchema } from '../../shared/api.ts'
import type { Api } from '../api.ts'
import { Failure } from '../failure.ts'

/** The data directory, created if missing. @throws Failure if it cannot be created or is used by another start. */
export async function takeFolder(dir: string): Promise<{ folder: string; release: () => Promise<void> }> {
  const folder = resolve(dir)
  try {
    // Other users may pass through (PostgreSQL runs as one when root starts it) but not list it.
    await mkdir(folder, { recursive: true, mode: 0o711 })
  } catch (cause) {
    throw new Failure(`could not create the data directory ${dir}: ${(cause as Error).message}`, { cause })
  }
  const file = join(folder, 'started-by')
  const holder = Number((await textOf(file)) ?? '')
  if (Number.isInteger(holder) && holder > 0 && holder !== process.pid && (await isStart(holder))) {
    throw new Failure(`${dir} is in use by another start (process ${holder}): stop it, or choose another --data`)
  }
  try {
    await writeFile(file, `${process.pid}\n`, { mode: 0o600 })
  } catch (cause) {
    throw new Failure(`could not write to the data directory ${dir}: ${(cause as Error).message}`, { cause })
  }
  return { folder, release: () => rm(file, { force: true }) }
}

/** The secret stored in `file`, created if missing. @throws Failure if the file contains none. */
export async function keptSecret(file: string): Promise<string> {
  const kept = await textOf(file)
  if (kept === undefined) {
    const made = randomBytes(24).toString('base64url')
    await writeFile(file, `${made}\n`, { mode: 0o600 })
    return made
  }
  const secret = kept.trim()
  if (/^[\x21-\x7e]+$/.test(secret)) return secret
  throw new Failure(`${file} contains no token: remove it, and a new one is created`)
}

/** The token of the two proxies, created by a call of control if missing. */
export async function keptProxyToken(file: string, api: Api): Promise<string> {
  const kept = (await textOf(file))?.trim()
  if (kept !== undefined && kept !== '') return kept
  const { token } = await api.inFleet(tokenCreatedSchema, '/tokens', { method: 'POST', body: { name: 'npm start' } })
  await writeFile(file, `${token}\n`, { mode: 0o600 })
  return token
}

/** Undefined if the file does not exist. */
export async function textOf(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Failure(`could not read ${file}: ${(error as Error).message}`, { cause: error })
  }
}

/** Whether the process is a running start: the process id may have been reused. */
async function isStart(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => 'start')
  return command.split('\0').includes('start')
}
