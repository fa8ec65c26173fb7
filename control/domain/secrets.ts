import type { PasswordSource } from '../../shared/config/credentials.ts'
import { secretNamePattern } from '../../shared/config/document.ts'
import type { FleetDocument, KnownSecrets } from '../../shared/config/sections.ts'
import { passwordKind } from '../../shared/config/password.ts'
import type { PasswordKind } from '../../shared/config/password.ts'
import { sha256Hex } from '../../shared/hash.ts'
import { listSecretUses, mapPasswords } from './passwords.ts'

/** Facts about a version of a secret that are known without decryption. */
export interface SecretFact {
  readonly name: string
  readonly version: number
  readonly kind: PasswordKind
  /** RFC 3339 UTC with milliseconds. */
  readonly created_at: string
  /** Keyed digest of the value. */
  readonly digest: string
  /** In which it was made; null is 1. */
  readonly epoch: number | null
}

/** As stored: null for the first epoch, in which nothing is written of it. */
export function secretEpoch(epoch: number): number | null {
  return epoch === 1 ? null : epoch
}

/** Lookup of all versions of a fleet's secrets. */
export class SecretIndex implements KnownSecrets {
  readonly remedy = 'create it with PUT secrets/{name}, or use the password itself'
  readonly #versions = new Map<string, SecretFact[]>()

  /** `facts` sorted by name, oldest version first. */
  constructor(facts: readonly SecretFact[]) {
    for (const fact of facts) {
      const versions = this.#versions.get(fact.name)
      if (versions === undefined) this.#versions.set(fact.name, [fact])
      else versions.push(fact)
    }
  }

  find(name: string, version?: number): SecretFact | undefined {
    const versions = this.#versions.get(name)
    return version === undefined ? versions?.at(-1) : versions?.find((fact) => fact.version === version)
  }

  /** The epoch in which a version was made: a part of its identity. */
  epochOf(name: string, version: number): number {
    return this.find(name, version)?.epoch ?? 1
  }

  /** The newest version of `name` whose value has this digest. */
  withValue(name: string, digest: string): SecretFact | undefined {
    return this.#versions.get(name)?.findLast((fact) => fact.digest === digest)
  }
}

/** A version of a secret to be created for a literal in a document. */
export interface SecretToMake extends Omit<SecretFact, 'created_at' | 'epoch'> {
  readonly value: string
}

export interface WithoutLiterals {
  /** All passwords are environment variables or secrets with a version; "" stays, which means no password. */
  readonly document: FleetDocument
  readonly made: readonly SecretToMake[]
}

/**
 * Moves literal passwords of a document into secrets, and resolves references without a version to the newest. A value
 * that its secret had before gets the former version, so that A, B, A ends with the references of the first A.
 */
export function moveLiterals(
  document: FleetDocument,
  known: SecretIndex,
  digestOf: (name: string, value: string) => string,
): WithoutLiterals {
  const made: SecretToMake[] = []
  const stored = mapPasswords(document, ({ path, source }): PasswordSource => {
    if (source === '') return source
    if (typeof source === 'string') {
      const name = secretNameOf(path)
      const digest = digestOf(name, source)
      const same = known.withValue(name, digest)
      if (same !== undefined) return { secret: name, version: same.version }
      const version = (known.find(name)?.version ?? 0) + 1
      made.push({ name, version, kind: passwordKind(source), digest, value: source })
      return { secret: name, version }
    }
    if ('env' in source) return source
    return { secret: source.secret, version: source.version ?? known.find(source.secret)!.version }
  })
  return { document: stored, made }
}

/** A reference of a former version that was replaced by the value in force. */
export interface KeptSecret {
  readonly path: string
  readonly name: string
  /** The version in force, which the new version refers to. */
  readonly version: number
  /** The version at that time. */
  readonly as_of: number
}

/**
 * The document of a former version with the values of secrets that are in force now: what the current document refers
 * to, or what was stored after that was written, which is not in use yet. Without it, a rollback across a rotated
 * password would bring the old one back.
 */
export function keepSecrets(
  former: FleetDocument,
  current: { readonly document: FleetDocument; readonly created_at: string } | undefined,
  known: SecretIndex,
): { readonly document: FleetDocument; readonly kept: readonly KeptSecret[] } {
  const inUse = new Map<string, number>()
  for (const { name, version } of current === undefined ? [] : listSecretUses(current.document)) {
    inUse.set(name, Math.max(version, inUse.get(name) ?? 0))
  }
  const kept: KeptSecret[] = []
  const document = mapPasswords(former, ({ path, source }): PasswordSource => {
    if (typeof source !== 'object' || !('secret' in source) || source.version === undefined) return source
    const { secret: name, version: as_of } = source
    const newest = known.find(name)
    const used = inUse.get(name)
    const isNews = newest !== undefined && (current === undefined || newest.created_at > current.created_at)
    const version = (isNews ? newest.version : used) ?? newest?.version ?? as_of
    if (version !== as_of) kept.push({ path, name, version, as_of })
    return { secret: name, version }
  })
  return { document, kept }
}

/** A secret that two documents use in different versions. */
export interface ChangedSecret {
  readonly path: string
  readonly name: string
  readonly before: number
  readonly after: number
}

/** References at the same path to another version of the same secret. */
export function changedSecrets(before: FleetDocument, after: FleetDocument): ChangedSecret[] {
  const old = new Map(listSecretUses(before).map((use) => [use.path, use]))
  return listSecretUses(after).flatMap(({ path, name, version }) => {
    const was = old.get(path)
    if (was === undefined || was.name !== name || was.version === version) return []
    return [{ path, name, before: was.version, after: version }]
  })
}

const digestLength = 32

/** The secret of a literal is named after its path, or a digest of it where the path is not a valid name. */
function secretNameOf(path: string): string {
  return secretNamePattern.test(path) ? path : `literal.${sha256Hex(path).slice(0, digestLength)}`
}
