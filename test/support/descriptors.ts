import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'

/** The open descriptors of a process, as "socket:[INODE]" or "/a/file" (proc_pid_fd(5)). */
export function descriptorsOf(pid: number): string[] {
  const folder = `/proc/${pid}/fd`
  return readdirSync(folder).flatMap((fd) => {
    try {
      return [readlinkSync(join(folder, fd))]
    } catch {
      return [] // closed meanwhile
    }
  })
}
