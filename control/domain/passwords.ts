import { secretKeys } from '../../shared/config/credentials.ts'
import type { PasswordSource } from '../../shared/config/credentials.ts'
import type { FleetDocument } from '../../shared/config/sections.ts'
import { join } from '../../shared/config/problems.ts'

/** A password in a document, and its path. */
export interface PasswordPlace {
  /** For example `pools.app.users.web.password`. */
  readonly path: string
  readonly source: PasswordSource
}

type Change = (place: PasswordPlace) => PasswordSource

/** A copy of the document with `change` applied to all passwords. */
export function mapPasswords(document: FleetDocument, change: Change): FleetDocument {
  const copy = structuredClone(document)
  changeIn(copy.defaults, 'defaults', change)
  for (const [name, pool] of Object.entries(copy.pools)) {
    const path = join('pools', name)
    changeIn(pool, path, change)
    for (const [user, section] of Object.entries(pool.users)) changeIn(section, join(join(path, 'users'), user), change)
  }
  for (const section of ['admin_users', 'stats_users'] as const) {
    for (const [user, entry] of Object.entries(copy[section])) changeIn(entry, join(section, user), change)
  }
  return copy
}

function changeIn(section: object, path: string, change: Change): void {
  // The keys that are looked at are of type secret in the table, so their values are sources.
  const sources = section as Record<string, PasswordSource | undefined>
  for (const key of secretKeys()) {
    const source = sources[key]
    if (source !== undefined) sources[key] = change({ path: join(path, key), source })
  }
}

function listPasswords(document: FleetDocument): PasswordPlace[] {
  const places: PasswordPlace[] = []
  mapPasswords(document, (place) => {
    places.push(place)
    return place.source
  })
  return places
}

/** A reference of a document to a secret. */
export interface SecretUse {
  readonly path: string
  readonly name: string
  readonly version: number
}

/** For a stored document, in which all references have a version. */
export function listSecretUses(document: FleetDocument): SecretUse[] {
  return listPasswords(document).flatMap(({ path, source }) =>
    typeof source === 'object' && 'secret' in source && source.version !== undefined
      ? [{ path, name: source.secret, version: source.version }]
      : [],
  )
}
