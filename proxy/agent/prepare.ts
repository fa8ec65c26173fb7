import type { CredentialKey } from '../../shared/config/credentials.ts'
import { secretRefsOf } from '../../shared/config/effective.ts'
import type { ConsoleUser, EffectivePool } from '../../shared/config/effective.ts'
import { parseHba } from '../../shared/config/hba.ts'
import { parseIdent } from '../../shared/config/ident.ts'
import { asksForPassword, passwordKind, plainIterationsMax } from '../../shared/config/password.ts'
import { generalSettings, poolSettings } from '../../shared/config/settings.ts'
import type { GeneralSettings } from '../../shared/config/settings.ts'
import type {
  AccessRules,
  ClientSecret,
  ConsoleUserSpec,
  FleetSpec,
  HostSpec,
  PoolSpec,
  UnpreparedPool,
} from '../spec.ts'
import { ApplyError } from './failure.ts'
import { inParallel } from './in-parallel.ts'
import type { Offer, OfferedPool } from './offer.ts'
import type { Passwords } from './password.ts'
import { lookupsAtOnce, UnresolvableHost, type Resolver } from './resolver.ts'
import type { Secrets } from './secrets.ts'
import { TlsReader } from './tls-files.ts'

export interface PrepareTools {
  readonly resolver: Pick<Resolver, 'resolveAll'>
  readonly secrets: Pick<Secrets, 'value'>
  readonly passwords: Passwords
}

/** Pools prepared concurrently: enough to overlap requests for secrets with key derivation. */
const atOnce = 8

export interface Prepared {
  readonly spec: FleetSpec
  /** Why pools are missing in it; null if none is. */
  readonly lack: ApplyError | null
}

/**
 * Prepares an offer: resolves names, fetches secrets, derives verifiers. Everything that can fail about a version fails
 * here, as an ApplyError with the pool and user, before anything that runs has changed. A pool that `mayLack` allows may be
 * missing in what is prepared, as long as another one is there.
 */
export async function prepare(
  offer: Offer,
  tools: PrepareTools,
  mayLack: (pool: { readonly pool: string; readonly user: string }) => boolean = () => false,
): Promise<Prepared> {
  if (offer.pools.length === 0) {
    throw new ApplyError('empty_configuration', 'the configuration has no pools; the running one stays')
  }
  const addresses = await resolveHosts(offer, tools.resolver)
  const failed: ApplyError[] = []
  const tls = new TlsReader()
  const general = generalSettings(offer.general)
  const clientTls = await tls.forClients(general)
  const access = accessOf(general)
  const results = await inParallel(offer.pools, atOnce, async (pool) => {
    try {
      return await preparePool(pool, addresses, tls, tools)
    } catch (error) {
      if (!(error instanceof ApplyError) || !mayLack(pool.body)) throw error
      failed.push(error)
      return null
    }
  })
  const pools = results.filter((pool) => pool !== null)
  const lack = joined(failed)
  if (lack !== null && pools.length === 0) throw lack
  const consoleUsers = await inParallel(
    offer.consoleUsers,
    atOnce,
    async (user) => await prepareConsoleUser(user, tools),
  )
  const spec = {
    position: offer.position,
    general,
    generalValues: offer.general,
    consoleUsers,
    pools,
    ...(lack === null ? {} : { unprepared: failed.map(unpreparedOf) }),
    ...(access === undefined ? {} : { access }),
    ...(clientTls === undefined ? {} : { clientTls }),
  }
  return { spec, lack }
}

/** One error for several pools; null for none. */
function joined([first, ...others]: readonly ApplyError[]): ApplyError | null {
  if (first === undefined) return null
  const { code, message, pool, user } = first
  const about = { ...(pool === null ? {} : { pool }), ...(user === null ? {} : { user }) }
  return new ApplyError(code, message, { ...about, others, cause: first })
}

function unpreparedOf({ pool, user, code }: ApplyError): UnpreparedPool {
  // Every error of `preparePool` names its pool.
  return { database: pool ?? '', user: user ?? '', code }
}

/** Control has validated the same texts; an older proxy may support less. */
function accessOf({ authHba, authIdent }: GeneralSettings): AccessRules | undefined {
  if (authHba === '' && authIdent === '') return undefined
  const hba = parseHba(authHba)
  const ident = parseIdent(authIdent)
  for (const [key, { faults }] of Object.entries({ auth_hba: hba, auth_ident: ident })) {
    const [fault] = faults
    if (fault !== undefined) {
      throw new ApplyError('unsupported_body', `general.${key}: line ${fault.line}: ${fault.message}`)
    }
  }
  return { rules: hba.rules, maps: ident.lines }
}

/** Addresses of each host, or why it has none. */
type Addresses = ReadonlyMap<string, readonly string[] | UnresolvableHost>

async function resolveHosts(offer: Offer, resolver: PrepareTools['resolver']): Promise<Addresses> {
  const hosts = [...new Set(hostsOf(offer))]
  const found = await inParallel(hosts, lookupsAtOnce, async (host) => {
    try {
      return (await resolver.resolveAll([host])).get(host) ?? [host]
    } catch (error) {
      if (error instanceof UnresolvableHost) return error
      throw error
    }
  })
  return new Map(hosts.map((host, index) => [host, found[index]!]))
}

function addressesOf(host: string, addresses: Addresses): readonly string[] {
  const found = addresses.get(host) ?? [host]
  if (found instanceof UnresolvableHost) throw new ApplyError('unresolvable_host', found.message)
  return found
}

/** All server names of an offer, with duplicates. */
export function hostsOf(offer: Offer): string[] {
  return offer.pools.flatMap(({ body }) => body.servers.map(({ host }) => host))
}

async function preparePool(
  { hash, offeredHash, connectHash, body }: OfferedPool,
  addresses: Addresses,
  tls: TlsReader,
  tools: PrepareTools,
): Promise<PoolSpec> {
  return await namingThePool(nameOf(body), async () => {
    const hosts = body.servers.map((server): HostSpec => ({
      ...server,
      addresses: addressesOf(server.host, addresses),
    }))
    const settings = poolSettings(body)
    const serverTls = await tls.forServers(settings)
    const texts = await textsOf(body, tools.secrets)
    return {
      database: body.pool,
      user: body.user,
      hash,
      ...(offeredHash === undefined ? {} : { offeredHash }),
      connectHash,
      serverDatabase: body.database,
      serverUser: body.server_user,
      settings,
      hosts,
      clientSecret: await poolSecret(body, texts, tools.passwords),
      serverPassword: serverPassword(body, texts),
      authPassword: texts.auth_password ?? null,
      ...(serverTls === undefined ? {} : { serverTls }),
    }
  })
}

/** The passwords of a pool in clear, by credential. */
type Texts = Readonly<Partial<Record<CredentialKey, string>>>

async function textsOf(body: EffectivePool, secrets: PrepareTools['secrets']): Promise<Texts> {
  const texts: Partial<Record<CredentialKey, string>> = {}
  for (const [key, ref] of secretRefsOf(body)) texts[key] = await secrets.value(ref)
  return texts
}

async function poolSecret(body: EffectivePool, texts: Texts, passwords: Passwords): Promise<ClientSecret> {
  if (body.password === null && asksForPassword(body.auth_type) && body.auth_user === '') {
    throw new ApplyError('unusable_password', `a user requires a password with auth_type = "${body.auth_type}"`)
  }
  const { password = null, previous_password: previous } = texts
  const secret =
    password === null || previous === undefined
      ? await passwords.clientSecret(password, body.user)
      : await passwords.rotatedSecret(password, { text: previous, untilMs: previousUntilMs(body) }, body.user)
  if (body.auth_type === 'plain' && secret.digest === undefined) checkPlainWork(secret)
  return secret
}

function previousUntilMs({ previous_password_until: until }: EffectivePool): number | null {
  return until === undefined ? null : Date.parse(until)
}

function checkPlainWork({ scram }: ClientSecret): void {
  if (scram === null || scram.iterations <= plainIterationsMax) return
  throw new ApplyError(
    'unusable_password',
    `the SCRAM verifier has ${scram.iterations} iterations, but auth_type = "plain" supports at most ${plainIterationsMax}`,
  )
}

/** The password itself, or null if the servers should not request one. */
function serverPassword(body: EffectivePool, { server_password: text = '' }: Texts): string | null {
  if (text === '') return null
  const kind = passwordKind(text)
  if (kind === 'plain') return text
  // The client's own verifier: the keys for the servers are known when it logs in.
  if (body.server_auth === 'passthrough') return null
  throw new ApplyError(
    'unusable_password',
    `server_password is a ${kind} hash, which cannot log in to a server; it must be the password itself`,
  )
}

async function prepareConsoleUser(
  { user, right, password }: ConsoleUser,
  { secrets, passwords }: PrepareTools,
): Promise<ConsoleUserSpec> {
  const clientSecret = password === null ? null : await passwords.clientSecret(await secrets.value(password), user)
  return { user, right, clientSecret }
}

/** Adds the pool to an error. */
async function namingThePool<Result>(
  pool: { readonly pool: string; readonly user: string },
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof ApplyError) || error.pool !== null) throw error
    throw new ApplyError(error.code, error.message, { ...pool, cause: error })
  }
}

function nameOf({ pool, user }: EffectivePool): { pool: string; user: string } {
  return { pool, user }
}
