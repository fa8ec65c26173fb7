import { z } from 'zod'
import { effectiveOf, generalOf } from '../../shared/config/body-format.ts'
import { credentialEntries } from '../../shared/config/credentials.ts'
import type { ConsoleUser, EffectivePool } from '../../shared/config/effective.ts'
import { bodyFormats } from '../../shared/config/formats.ts'
import type { BodyFormat } from '../../shared/config/formats.ts'
import { generalKeys, poolKeys } from '../../shared/config/keys.ts'
import type { GeneralValues, KeySpec } from '../../shared/config/keys.ts'
import { ourKeys } from '../../shared/config/known-keys.ts'
import { checkValue } from '../../shared/config/value.ts'
import { hashOf, poolHashes } from '../../shared/hash.ts'
import { consoleUserSchema, secretRefSchema } from '../../shared/wire.ts'
import type { Manifest, Position } from '../../shared/wire.ts'
import { ApplyError } from './failure.ts'

/**
 * One pool of an offer: its effective configuration, and hashes recomputed from it in the newest format, which tell whether
 * it changes, in whichever format it was offered.
 */
export interface OfferedPool {
  readonly hash: string
  /** As it is offered; absent if it is offered under `hash`. */
  readonly offeredHash?: string
  readonly connectHash: string
  readonly body: EffectivePool
}

/** An offered version, verified, before names are resolved and secrets fetched. */
export interface Offer {
  readonly position: Position
  readonly general: GeneralValues
  readonly consoleUsers: readonly ConsoleUser[]
  readonly pools: readonly OfferedPool[]
}

const serverSchema = z.strictObject({
  host: z.string().min(1),
  port: z.int().min(1).max(65535),
  role: z.enum(['primary', 'replica']),
})

/** Fields of a body besides the keys of the table. */
const bodySchema = z.looseObject({
  pool: z.string().min(1),
  user: z.string().min(1),
  database: z.string().min(1),
  servers: z.array(serverSchema).min(1),
  ...credentialSchemas(),
})

function credentialSchemas(): Record<string, z.ZodType> {
  const types = { secret: secretRefSchema, name: z.string().min(1), time: z.iso.datetime() }
  return Object.fromEntries(
    credentialEntries().map(([key, { type, presence }]) => {
      const schema = types[type]
      if (presence === 'always') return [key, schema]
      // Of null, only those of the first release are written.
      return [key, presence === 'or_null' ? schema.nullable().optional() : schema.optional()]
    }),
  )
}

const bodyKeys = new Set(ourKeys.pool)

/**
 * Verifies a pool body against its line in the manifest: name and hash must match, and there must be no unknown key, because
 * an ignored key may be one that protects something. An absent key has its default. Throws an ApplyError: `hash_mismatch`,
 * `unsupported_body`.
 */
export function verifyBody(promised: Manifest['pools'][number], body: unknown): OfferedPool {
  const about = { pool: promised.pool, user: promised.user }
  const parsed = bodySchema.safeParse(body)
  if (!parsed.success) throw new ApplyError('unsupported_body', `${sentences(parsed.error)}; ${tooOld}`, about)
  const effective = asEffective(parsed.data, about)
  const hash = hashOf(parsed.data)
  if (hash !== promised.hash || effective.pool !== promised.pool || effective.user !== promised.user) {
    throw new ApplyError('hash_mismatch', `the body of ${promised.hash} has the hash ${hash}`, about)
  }
  return offeredAs(promised.hash, effective)
}

/** A pool whose configuration is known, and which is offered under `hash`. */
export function offeredAs(hash: string, body: EffectivePool): OfferedPool {
  const own = poolHashes(body)
  return {
    hash: own.hash,
    ...(own.hash === hash ? {} : { offeredHash: hash }),
    connectHash: own.connect_hash,
    body,
  }
}

const tooOld = 'this proxy may be older than control'

function asEffective(body: z.infer<typeof bodySchema>, about: { pool: string; user: string }): EffectivePool {
  for (const key of Object.keys(body)) {
    if (!bodyKeys.has(key)) throw new ApplyError('unsupported_body', `unknown key ${key}; ${tooOld}`, about)
  }
  const fault = valuesFault(poolKeys, body)
  if (fault !== undefined) throw new ApplyError('unsupported_body', `${fault}; ${tooOld}`, about)
  return effectiveOf(body)
}

/** Verifies the general part of a manifest. Throws an ApplyError `unsupported_body`. */
export function verifyGeneral(general: Manifest['general']): Pick<Offer, 'general' | 'consoleUsers'> {
  for (const key of Object.keys(general.settings)) {
    if (!Object.hasOwn(generalKeys, key)) {
      throw new ApplyError('unsupported_body', `unknown key general.${key}; ${tooOld}`)
    }
  }
  const fault = valuesFault(generalKeys, general.settings)
  if (fault !== undefined) throw new ApplyError('unsupported_body', `general.${fault}; ${tooOld}`)
  const users = z.array(consoleUserSchema).safeParse(general.console_users)
  if (!users.success) {
    throw new ApplyError('unsupported_body', `general.console_users.${sentences(users.error)}; ${tooOld}`)
  }
  return { general: generalOf(general.settings), consoleUsers: users.data }
}

/** Undefined for a format of a later release. */
export function formatOf({ body_format: format = 1 }: Manifest): BodyFormat | undefined {
  return bodyFormats.find((one) => one === format)
}

/** Throws an ApplyError `unsupported_body` for a format of a later release. */
export function verifyFormat(manifest: Manifest): BodyFormat {
  const known = formatOf(manifest)
  if (known !== undefined) return known
  throw new ApplyError('unsupported_body', `body format ${manifest.body_format} is unknown; ${tooOld}`)
}

/** The first invalid value; an absent key has its default. */
function valuesFault(keys: Record<string, KeySpec>, values: Record<string, unknown>): string | undefined {
  for (const [key, spec] of Object.entries(keys)) {
    if (values[key] === undefined) continue
    const checked = checkValue(spec, values[key])
    if ('fault' in checked) return `${key} ${checked.fault}`
  }
  return undefined
}

/** A zod error in one line, without the values. */
export function sentences(error: z.ZodError): string {
  return error.issues.map(({ path, message }) => `${path.join('.') || 'body'}: ${message}`).join('; ')
}
