import { chmodSync, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Address } from '../../io/io.ts'
import { closeFd, connectUnix } from '../libc.ts'

/** Where processes that share a takeover socket reach each other. */
export interface CancelSockets {
  /** For this process to listen on. */
  readonly own: Address
  /** Of those that live: the one that runs, and former ones that still have clients. */
  readonly predecessors: readonly Address[]
}

/** Only this user may enter: whoever can connect can have a query canceled whose key he knows, and nothing else. */
const folderMode = 0o700

const cancelSocketName = /^\.s\.PGSQL\.(\d{1,5})$/

/**
 * A process that has given its listener away receives cancel requests on a socket of its own: a Unix socket in a folder
 * beside the takeover socket, under a number that no living process has. Throws where that folder cannot be used.
 */
export function cancelSocketsOf(takeover: string): CancelSockets {
  const folder = `${takeover}.d`
  mkdirSync(folder, { recursive: true, mode: folderMode })
  // It may have been there; then it must be ours.
  chmodSync(folder, folderMode)
  const numbers = readdirSync(folder).flatMap((file) => cancelSocketName.exec(file)?.[1] ?? [])
  // What a process left behind that was killed answers nobody, and its number is taken again.
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
