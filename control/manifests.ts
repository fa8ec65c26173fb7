/**
 * Manifests of versions by body format. A version that was made before a format has none in it: it is made of what the
 * version has in format 1 when it is first asked for, and kept, so that it never changes after that.
 */
import { newestFormat } from '../shared/config/formats.ts'
import type { BodyFormat } from '../shared/config/formats.ts'
import type { PoolHash } from '../shared/config/effective.ts'
import { desiredHashes, plannedVersion, reformatted } from './domain/version.ts'
import type { OfferedContent, PlannedVersion } from './domain/version.ts'
import type { Store } from './store/store.ts'
import { addManifest, findManifest, findVersion, listPoolBodies } from './store/versions.ts'
import type { VersionRow } from './store/versions.ts'

type StoredVersion = Pick<VersionRow, 'fleet' | 'version' | 'manifest'>

/** The manifest of a version in a format, without its position. */
export async function manifestOf(store: Store, row: StoredVersion, format: BodyFormat): Promise<string> {
  if (format === 1) return row.manifest
  const kept = await findManifest(store, row.fleet, row.version, format)
  return kept ?? (await made(store, row, format)).manifest
}

/** The hashes that a proxy should run whose report has this `body_format`, which is 1 if the report names none. */
export async function desiredHashesOf(
  store: Store,
  row: StoredVersion,
  format: BodyFormat,
): Promise<readonly PoolHash[]> {
  return desiredHashes(await manifestOf(store, row, format))
}

/** What plans compare of a stored version. */
export async function plannedRow(store: Store, row: VersionRow): Promise<PlannedVersion> {
  return plannedVersion(row, await manifestOf(store, row, newestFormat))
}

async function made(store: Store, row: StoredVersion, format: BodyFormat): Promise<OfferedContent> {
  const hashes = desiredHashes(row.manifest).map(({ hash }) => hash)
  return reformatted(row.manifest, await listPoolBodies(store, row.fleet, hashes), format)
}

/** Makes missing manifests and keeps them, each once, however many proxies ask for it at the same time. */
export class MissingManifests {
  readonly #store: Store
  readonly #underWay = new Map<string, Promise<string>>()

  constructor(store: Store) {
    this.#store = store
  }

  async make(fleet: string, version: number, format: BodyFormat): Promise<string> {
    const key = JSON.stringify([fleet, version, format])
    const underWay = this.#underWay.get(key) ?? this.#make(fleet, version, format)
    this.#underWay.set(key, underWay)
    try {
      return await underWay
    } finally {
      this.#underWay.delete(key)
    }
  }

  async #make(fleet: string, version: number, format: BodyFormat): Promise<string> {
    const row = await findVersion(this.#store, fleet, version)
    if (row === undefined) throw new Error(`fleet ${fleet} has no version ${version}`)
    const offered = await made(this.#store, row, format)
    await addManifest(this.#store, row, offered)
    return offered.manifest
  }
}
