import type { PasswordSource } from '../../shared/config/credentials.ts'
import { secretNamePattern } from '../../shared/config/document.ts'
import type { FleetDocument, KnownSecrets } from '../../shared/config/sections.ts'
import { passwordKind } from '../../shared/config/password.ts'
import type { PasswordKind } from '../../shared/config/password.ts'
import { sha256Hex } from '../../shared/hash.ts'
import { mapPasswords } from './passwords.ts'

/** Facts about a version of a secret that are known without decryption. */
export interface SecretFact {
  readonly name: string
  readonly version: number
  readonly kind: PasswordKind
  /** Keyed digest of the value. */
  readonly digest: string
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

  /** The newest version of `name` whose value has this digest. */
  withValue(name: string, digest: string): SecretFact | undefined {
    return this.#versions.get(name)?.findLast((fact) => fact.digest === digest)
  }
}

/** A version of a secret to be created for a literal in a document. */
export interface SecretToMake extends SecretFact {
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

const digestLength = 32

/** The secret of a literal is named after its path, or a digest of it where the path is not a valid name. */
function secretNameOf(path: string): string {
  return secretNamePattern.test(path) ? path : `literal.${sha256Hex(path).slice(0, digestLength)}`
}
