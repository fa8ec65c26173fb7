/**
 * The keys that a release knows. A proxy says at hello which ones it has, so that control can tell what it would refuse, also
 * where the proxy is the newer one.
 */
import { credentials } from './credentials.ts'
import { firstRelease } from './first-release.ts'
import { generalKeys, poolKeys } from './keys.ts'

/** Keys of [general], of pool bodies with credentials, and of servers in bodies. */
export interface KnownKeys {
  general: string[]
  pool: string[]
  server: string[]
}

/** Of a body: which pool it is, and its servers. */
const namingKeys = ['pool', 'user', 'database', 'servers'] as const

/** Of a server in a body. */
const serverKeys = ['host', 'port', 'role'] as const

/** What this release knows. */
export const ourKeys: KnownKeys = {
  general: Object.keys(generalKeys),
  pool: [...namingKeys, ...Object.keys(credentials), ...Object.keys(poolKeys)],
  server: [...serverKeys],
}

/** What release 0.1.0 knew, and any proxy knows. */
export const firstReleaseKeys: KnownKeys = {
  general: Object.keys(firstRelease.general),
  pool: [...namingKeys, ...firstRelease.credentials, ...Object.keys(firstRelease.pool)],
  server: [...firstRelease.server],
}
