import type { FleetDocument, PasswordSource } from '../../shared/config/document.ts'
import { join } from '../../shared/config/problems.ts'

/** One place of a document that names a password. */
export interface PasswordPlace {
  /** For example `pools.app.users.web.password`. */
  readonly path: string
  readonly source: PasswordSource
}

type Change = (place: PasswordPlace) => PasswordSource

/** The document with every password put through `change`; the given one stays as it is. */
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

const passwordKeys = ['password', 'previous_password', 'server_password', 'auth_password'] as const

function changeIn(
  section: { [key in (typeof passwordKeys)[number]]?: PasswordSource },
  path: string,
  change: Change,
): void {
  for (const key of passwordKeys) {
    const source = section[key]
    if (source !== undefined) section[key] = change({ path: join(path, key), source })
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

/** Where a document names one of control's secrets, and which version. */
export interface SecretUse {
  readonly path: string
  readonly name: string
  readonly version: number
}

/** Of a stored document: there every reference names its version. */
export function listSecretUses(document: FleetDocument): SecretUse[] {
  return listPasswords(document).flatMap(({ path, source }) =>
    typeof source === 'object' && 'secret' in source && source.version !== undefined
      ? [{ path, name: source.secret, version: source.version }]
      : [],
  )
}
