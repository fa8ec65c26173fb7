import { chmodSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Address } from '../../io/io.ts'
import { closeFd, connectUnix } from '../libc.ts'

/** Sockets at which processes with the same takeover socket reach each other. */
export interface CancelSockets {
  /** The socket of this process. */
  readonly own: Address
  /** The sockets of living processes: the running one, and former ones that still have clients. */
  readonly predecessors: readonly Address[]
}

/** For this user only: a peer that can connect can have queries canceled whose key it knows, nothing else. */
const folderMode = 0o700

const cancelSocketName = /^\.s\.PGSQL\.(\d{1,5})$/

/**
 * A process that handed over its listener receives cancel requests on a socket of its own: a Unix socket in a directory
 * beside the takeover socket, with a number that no living process has. Throws if the directory cannot be used.
 */
export function cancelSocketsOf(takeover: string): CancelSockets {
  const folder = `${takeover}.d`
  mkdirSync(folder, { recursive: true, mode: folderMode })
  // It may have existed; then it must belong to this user.
  chmodSync(folder, folderMode)
  const numbers = readdirSync(folder).flatMap((file) => cancelSocketName.exec(file)?.[1] ?? [])
  // The socket of a killed process does not answer, and its number is reused.
  const living = numbers.filter((number) => answers(join(folder, `.s.PGSQL.${number}`))).map(Number)
  let own = 1
  while (living.includes(own)) own += 1
  return { own: { host: folder, port: own }, predecessors: living.map((port) => ({ host: folder, port })) }
}

function answers(path: string): boolean {
  const fd = connectUnix(path)
  if (fd !== null) closeFd(fd)
  return fd !== null
}
