/** What a process is started with: read once, and tried before a version with other values is applied. */
import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { isIP } from 'node:net'
import type { GeneralSettings } from '../../shared/config/settings.ts'
import { bindFault } from '../io/try-bind.ts'
import { ApplyError } from './failure.ts'
import { reasonOf } from './log.ts'
import type { Lookup } from './resolver.ts'

export type ProcessSettings = Pick<
  GeneralSettings,
  'listenHost' | 'listenPort' | 'unixSocketDir' | 'unixSocketMode' | 'workers'
>

export function processSettings(settings: ProcessSettings): ProcessSettings {
  const { listenHost, listenPort, unixSocketDir, unixSocketMode, workers } = settings
  return { listenHost, listenPort, unixSocketDir, unixSocketMode, workers }
}

/** Keys of `[general]` under which they are written. */
export function writtenProcessSettings(settings: ProcessSettings): Record<string, string | number> {
  return {
    listen_host: settings.listenHost,
    listen_port: settings.listenPort,
    unix_socket_dir: settings.unixSocketDir,
    unix_socket_mode: settings.unixSocketMode,
    workers: settings.workers,
  }
}

interface Wanted {
  readonly next: ProcessSettings
  readonly running: ProcessSettings
  /** Given on the command line, in place of what versions say. */
  readonly listen: { readonly host: string | null; readonly port: number | null }
  readonly lookup: Lookup
}

/**
 * Tries what differs from the running version. A version with which this machine could not start again would be found out
 * by the next restart, when nothing is left to go back to. Throws an ApplyError `cannot_start`.
 */
export async function tryProcessSettings({ next, running, listen, lookup }: Wanted): Promise<void> {
  const fault =
    (next.unixSocketDir === running.unixSocketDir ? null : await folderFault(next.unixSocketDir)) ??
    (await addressFault({ next, running, listen, lookup }))
  if (fault !== null) throw new ApplyError('cannot_start', fault)
}

async function folderFault(dir: string): Promise<string | null> {
  if (dir === '') return null
  try {
    if (!(await stat(dir)).isDirectory()) return `general.unix_socket_dir: ${dir} is not a directory`
    await access(dir, constants.W_OK | constants.X_OK)
    return null
  } catch (error) {
    return `general.unix_socket_dir: ${reasonOf(error)}`
  }
}

async function addressFault({ next, running, listen, lookup }: Wanted): Promise<string | null> {
  const host = listen.host ?? next.listenHost
  const port = listen.port ?? next.listenPort
  if (host === (listen.host ?? running.listenHost) && port === (listen.port ?? running.listenPort)) return null
  // On its own port this process would be in its own way.
  const free = port === (listen.port ?? running.listenPort) ? 0 : port
  try {
    const [address] = isIP(host) === 0 ? await lookup(host) : [host]
    if (address === undefined) return `general.listen_host: ${host} does not resolve`
    const fault = bindFault({ host: address, port: free })
    return fault === null ? null : `general.listen_host, listen_port: could not use ${host}:${port}: ${fault}`
  } catch (error) {
    return `general.listen_host: ${reasonOf(error)}`
  }
}
