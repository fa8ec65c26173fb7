/** What proxies of a fleet cannot run of a document, because their release does not know a key. */
import { bodyIn, generalIn } from '../../shared/config/body-format.ts'
import { effectiveGeneral, effectivePools } from '../../shared/config/effective.ts'
import { newestFormat } from '../../shared/config/formats.ts'
import { firstReleaseKeys } from '../../shared/config/known-keys.ts'
import type { KnownKeys } from '../../shared/config/known-keys.ts'
import { join } from '../../shared/config/problems.ts'
import type { FleetDocument } from '../../shared/config/sections.ts'
import type { Written } from '../../shared/api.ts'

/** What a proxy said at hello. */
export interface Knowledge {
  readonly id: string
  readonly agent_version: string | null
  /** As JSON; null for release 0.1.0. */
  readonly known_keys: string | null
}

/** A key that bodies or the general part name, and where the document has it. */
interface UsedKey {
  readonly table: keyof KnownKeys
  readonly key: string
  readonly path: string
}

/** Those that release 0.1.0 did not know, and so any proxy may not. A key at its default is in no body. */
export function newKeysOf(document: FleetDocument): UsedKey[] {
  const used = new Map<string, UsedKey>()
  const add = (table: UsedKey['table'], key: string, path: () => string): void => {
    if (firstReleaseKeys[table].includes(key)) return
    const one = { table, key, path: path() }
    used.set(one.path, one)
  }
  const { settings } = generalIn(newestFormat, effectiveGeneral(document))
  for (const key of Object.keys(settings)) add('general', key, () => join('general', key))
  for (const pool of effectivePools(document)) {
    for (const key of Object.keys(bodyIn(newestFormat, pool))) add('pool', key, () => pathOf(document, pool, key))
    for (const server of pool.servers) {
      for (const key of Object.keys(server)) add('server', key, () => `${join('pools', pool.pool)}.servers.${key}`)
    }
  }
  return [...used.values()]
}

/** The section from which a user of a pool has the key. */
function pathOf(document: FleetDocument, { pool, user }: { pool: string; user: string }, key: string): string {
  const section = document.pools[pool]!
  const path = join('pools', pool)
  if (Object.hasOwn(section.users[user]!, key)) return join(join(join(path, 'users'), user), key)
  return Object.hasOwn(section, key) ? join(path, key) : join('defaults', key)
}

/** Proxies that will refuse the document, with the keys. */
export function unsupportedBy(used: readonly UsedKey[], proxies: readonly Knowledge[]): Written['unsupported'] {
  // Proxies of one release say the same.
  const lacking = new Map<string | null, readonly string[]>()
  const keysOf = (known_keys: string | null): readonly string[] => {
    const known = known_keys === null ? firstReleaseKeys : (JSON.parse(known_keys) as KnownKeys)
    return used.filter(({ table, key }) => !known[table].includes(key)).map(({ path }) => path)
  }
  return proxies.flatMap(({ id, agent_version, known_keys }) => {
    const keys = lacking.get(known_keys) ?? keysOf(known_keys)
    lacking.set(known_keys, keys)
    return keys.length === 0 ? [] : [{ proxy: id, agent_version, keys: [...keys] }]
  })
}
