import { secretNamePattern } from '../../shared/config/document.ts'
import type { FleetDocument, KnownSecrets, PasswordSource } from '../../shared/config/document.ts'
import { passwordKind } from '../../shared/config/password.ts'
import type { PasswordKind } from '../../shared/config/password.ts'
import { sha256Hex } from '../../shared/hash.ts'
import { mapPasswords } from './passwords.ts'

/** What is known of one version of a secret without opening it. */
export interface SecretFact {
  readonly name: string
  readonly version: number
  readonly kind: PasswordKind
  /** Keyed digest of the value. */
  readonly digest: string
}

/** All versions of a fleet's secrets, for looking up. */
export class SecretIndex implements KnownSecrets {
  readonly remedy = 'make it first with PUT secrets/{name}, or write the password itself'
  readonly #versions = new Map<string, SecretFact[]>()

  /** `facts` by name, oldest version first. */
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

  /** The newest version of `name` that holds the value with this digest. */
  withValue(name: string, digest: string): SecretFact | undefined {
    return this.#versions.get(name)?.findLast((fact) => fact.digest === digest)
  }
}

/** A version of a secret that a document brings with it. */
export interface SecretToMake extends SecretFact {
  readonly value: string
}

export interface WithoutLiterals {
  /** Every password is a variable's name or a secret with its version ("" stays: it is no password). */
  readonly document: FleetDocument
  readonly made: readonly SecretToMake[]
}

/**
 * Moves the passwords that stand in a document into secrets, and gives references without a version the newest. A value
 * that its secret has held before is found again, so that A, B, A ends with the very references of the first A.
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

/** A literal's secret is named after the place where it stands, or a digest of it where that is no name. */
function secretNameOf(path: string): string {
  return secretNamePattern.test(path) ? path : `literal.${sha256Hex(path).slice(0, digestLength)}`
}
