import { readFileSync } from 'node:fs'
import { descriptorsOf } from './descriptors.ts'

/**
 * Number of a process's IPv4 connections to `port`, including those being opened (proc_pid_net(5)). One that it has
 * closed does not count, even if its peer does not know yet.
 */
export function connectionsTo(port: number, pid: number): number {
  // Its sockets are read first: what is in both was open in between, all at the same time.
  const own = new Set(descriptorsOf(pid))
  const entries = readFileSync(`/proc/${pid}/net/tcp`, 'utf8').split('\n').slice(1, -1)
  // The kernel returns the table in pieces, and may repeat an entry when others are added in between.
  const sockets = new Set<string>()
  for (const entry of entries) {
    const fields = entry.trim().split(/\s+/)
    const [remote = '', state = '', inode = ''] = [fields[2], fields[3], fields[9]]
    const socket = `socket:[${inode}]`
    if (open.has(state) && Number.parseInt(remote.slice(-4), 16) === port && own.has(socket)) sockets.add(socket)
  }
  return sockets.size
}

/** Whether the peer of this process's IPv4 connection from `localPort` has closed its side. */
export function peerHasClosed(localPort: number): boolean {
  const entries = readFileSync('/proc/self/net/tcp', 'utf8').split('\n').slice(1, -1)
  const fields = entries.map((entry) => entry.trim().split(/\s+/))
  return fields.some(([, local = '', , state]) => Number.parseInt(local.slice(-4), 16) === localPort && state === '08')
}

/** TCP_ESTABLISHED, TCP_SYN_SENT */
const open = new Set(['01', '02'])
