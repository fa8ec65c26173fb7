import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, statSync, unlinkSync, writeSync } from 'node:fs'
import { secretKeyBytes } from '../domain/sealing.ts'
import { StoreUnusable } from '../store/port.ts'

const keyFileMode = 0o600
const othersMask = 0o077

/** Parses a key, 32 bytes as base64 or hex. Throws StoreUnusable, which does not quote the text. */
export function parseSecretKey(text: string, source: string): Buffer {
  const trimmed = text.trim()
  const isHex = trimmed.length === secretKeyBytes * 2 && /^[0-9a-f]+$/i.test(trimmed)
  const key = Buffer.from(trimmed, isHex ? 'hex' : 'base64')
  if (key.length === secretKeyBytes) return key
  throw new StoreUnusable(
    `${source} must be ${secretKeyBytes} bytes in base64 or hex: create one with openssl rand -base64 32`,
  )
}

/** The key in the file at `path`, which is created with mode 0600 if missing. */
export function keyFromFile(path: string): Buffer {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) makeKeyFile(path)
  else if ((stat.mode & othersMask) !== 0) {
    throw new StoreUnusable(`${path} contains the secret key and is accessible to other users: run chmod 600`)
  }
  return parseSecretKey(readFileSync(path, 'utf8'), path)
}

/**
 * Written under another name and linked into place, so that the file is never partial and of two processes one wins.
 */
function makeKeyFile(path: string): void {
  const beside = `${path}.${process.pid}`
  const file = openSync(beside, 'wx', keyFileMode)
  try {
    writeSync(file, `${randomBytes(secretKeyBytes).toString('base64')}\n`)
    fsyncSync(file)
    linkSync(beside, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    closeSync(file)
    unlinkSync(beside)
  }
}
