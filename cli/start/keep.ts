/** What `npm start` keeps in its data folder between runs: secrets in files of mode 0600, and who uses the folder. */
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { tokenCreatedSchema } from '../../shared/api.ts'
import type { Api } from '../api.ts'
import { Failure } from '../failure.ts'

/** The data folder, made when it is missing. @throws Failure when it cannot be made or another start uses it. */
export async function takeFolder(dir: string): Promise<{ folder: string; release: () => Promise<void> }> {
  const folder = resolve(dir)
  try {
    // Others may pass through (PostgreSQL runs as another user when root starts it) but not look around.
    await mkdir(folder, { recursive: true, mode: 0o711 })
  } catch (cause) {
    throw new Failure(`the data folder ${dir} cannot be made: ${(cause as Error).message}`, { cause })
  }
  const file = join(folder, 'started-by')
  const holder = Number((await textOf(file)) ?? '')
  if (Number.isInteger(holder) && holder > 0 && holder !== process.pid && (await isStart(holder))) {
    throw new Failure(`${dir} is used by another start (process ${holder}): stop that one, or give another --data`)
  }
  try {
    await writeFile(file, `${process.pid}\n`, { mode: 0o600 })
  } catch (cause) {
    throw new Failure(`the data folder ${dir} cannot be written: ${(cause as Error).message}`, { cause })
  }
  return { folder, release: () => rm(file, { force: true }) }
}

/** The secret kept in `file`, made at the first time. @throws Failure when the file is there without a secret in it. */
export async function keptSecret(file: string): Promise<string> {
  const kept = await textOf(file)
  if (kept === undefined) {
    const made = randomBytes(24).toString('base64url')
    await writeFile(file, `${made}\n`, { mode: 0o600 })
    return made
  }
  const secret = kept.trim()
  if (/^[\x21-\x7e]+$/.test(secret)) return secret
  throw new Failure(`${file} holds no token: remove it to have a new one made`)
}

/** The token of the two proxies, made by control's call at the first time. */
export async function keptProxyToken(file: string, api: Api): Promise<string> {
  const kept = (await textOf(file))?.trim()
  if (kept !== undefined && kept !== '') return kept
  const { token } = await api.inFleet(tokenCreatedSchema, '/tokens', { method: 'POST', body: { name: 'npm start' } })
  await writeFile(file, `${token}\n`, { mode: 0o600 })
  return token
}

/** Undefined when there is no such file. */
export async function textOf(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new Failure(`${file} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

/** Whether a process is a start that runs: a process id may have gone to somebody else since. */
async function isStart(pid: number): Promise<boolean> {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => 'start')
  return command.split('\0').includes('start')
}
