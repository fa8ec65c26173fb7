/**
 * Creates versions: reads the current state, decides in plain code, then writes a list of statements that fails as a
 * whole if another writer was first, in which case everything is repeated.
 */
import type { RollbackSecrets, Written } from '../shared/api.ts'
import { readDocument } from '../shared/config/document.ts'
import { newestFormat } from '../shared/config/formats.ts'
import type { FleetDocument } from '../shared/config/sections.ts'
import { ConfigError } from '../shared/config/problems.ts'
import type { Hint } from '../shared/wire.ts'
import { ApiProblem, noSuchFleet } from './api-problem.ts'
import { effectsOf } from './domain/effects.ts'
import { planOf } from './domain/plan.ts'
import { keepSecrets, moveLiterals, secretEpoch, SecretIndex } from './domain/secrets.ts'
import type { KeptSecret, SecretToMake } from './domain/secrets.ts'
import { contentOf, documentOf, plannedVersion } from './domain/version.ts'
import type { VersionContent } from './domain/version.ts'
import { newKeysOf, unsupportedBy } from './domain/unsupported.ts'
import type { ControlHost } from './host.ts'
import { manifestOf } from './manifests.ts'
import { configTopic } from './topics.ts'
import { readEpoch } from './store/control-row.ts'
import { findFleet } from './store/fleets.ts'
import { AlreadyThere, GuardFailed } from './store/port.ts'
import { listHintTargets, listKnowledge } from './store/proxies.ts'
import { listSecrets } from './store/secrets.ts'
import type { NewSecret } from './store/secrets.ts'
import { appendVersion, findVersion } from './store/versions.ts'
import type { VersionRow } from './store/versions.ts'

export interface ConfigRequest {
  /** The parsed request body, not validated yet. */
  readonly tree: unknown
  /** Version numbers of If-Match; undefined for no condition. */
  readonly ifMatch: readonly number[] | undefined
  readonly dryRun: boolean
  /** Proxies do not try the servers of the version first. */
  readonly force: boolean
  readonly message: string | null
}

/** Number of attempts when other writers are first. */
const attemptsMax = 4

/** Throws an ApiProblem: not-found, stale-version, invalid. */
export async function writeConfig(host: ControlHost, fleet: string, request: ConfigRequest): Promise<Written> {
  return await decided(host, fleet, request.ifMatch, async (current) => {
    const known = new SecretIndex(await listSecrets(host.store, fleet))
    const digestOf = (name: string, value: string): string => host.sealing.digest(fleet, name, value)
    const { document, made } = moveLiterals(read(request.tree, known), known, digestOf)
    const { dryRun, force, message } = request
    const epoch = await readEpoch(host.store)
    const isMade = (name: string, version: number): boolean =>
      made.some((one) => one.name === name && one.version === version)
    const content = contentOf(document, (name, version) =>
      isMade(name, version) ? epoch : known.epochOf(name, version),
    )
    return { content, made, kept: [], dryRun, force, message, rollbackOf: null, current }
  })
}

export interface RollbackRequest {
  readonly to: number
  /** Version numbers of If-Match; undefined for no condition. */
  readonly ifMatch: readonly number[] | undefined
  readonly dryRun: boolean
  /** Proxies do not try the servers of the version first. */
  readonly force: boolean
  readonly message: string | null
  /** Whether secrets keep the values in force, or return to those of that version. */
  readonly secrets: RollbackSecrets
}

/** A new version with the content of an older one. Throws an ApiProblem: not-found, stale-version. */
export async function rollBack(host: ControlHost, fleet: string, request: RollbackRequest): Promise<Written> {
  const { to, dryRun, force, message, secrets } = request
  return await decided(host, fleet, request.ifMatch, async (current) => {
    const target = await findVersion(host.store, fleet, to)
    if (target === undefined) throw new ApiProblem('not-found', `the fleet has no version ${to}`)
    const former = documentOf(target)
    const known = new SecretIndex(await listSecrets(host.store, fleet))
    const { document, kept } =
      secrets === 'as_of' ? { document: former, kept: [] } : withSecretsInForce(former, current, known)
    // The document determines everything; hashes and bodies are computed by the present rules.
    const content = contentOf(document, (name, version) => known.epochOf(name, version))
    return { content, made: [], kept, dryRun, force, message, rollbackOf: to, current }
  })
}

function withSecretsInForce(
  former: FleetDocument,
  current: VersionRow | undefined,
  known: SecretIndex,
): ReturnType<typeof keepSecrets> {
  const inForce = current && { document: documentOf(current), created_at: current.created_at }
  return keepSecrets(former, inForce, known)
}

function read(tree: unknown, known: SecretIndex): FleetDocument {
  try {
    return readDocument(tree, known)
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    throw new ApiProblem('invalid', 'the configuration is invalid; nothing was stored', { errors: error.problems })
  }
}

interface Decision {
  readonly content: VersionContent
  readonly made: readonly SecretToMake[]
  readonly kept: readonly KeptSecret[]
  readonly dryRun: boolean
  /** Proxies do not try the servers of the version first. */
  readonly force: boolean
  readonly message: string | null
  readonly rollbackOf: number | null
  /** Undefined before the first version. */
  readonly current: VersionRow | undefined
}

/** Runs `decide` on the current version and writes its decision; starts over if another writer was first. */
async function decided(
  host: ControlHost,
  fleet: string,
  ifMatch: readonly number[] | undefined,
  decide: (current: VersionRow | undefined) => Promise<Decision>,
): Promise<Written> {
  for (let attempt = 1; ; attempt += 1) {
    const row = await findFleet(host.store, fleet)
    if (row === undefined) throw noSuchFleet()
    if (ifMatch !== undefined && !ifMatch.includes(row.version)) throw staleVersion(row.version)
    const current = row.version === 0 ? undefined : await findVersion(host.store, fleet, row.version)
    try {
      return await carryOut(host, fleet, await decide(current))
    } catch (error) {
      const overtaken = error instanceof GuardFailed || error instanceof AlreadyThere
      if (!overtaken || attempt >= attemptsMax) throw error
    }
  }
}

async function carryOut(host: ControlHost, fleet: string, decision: Decision): Promise<Written> {
  const { content, current, dryRun, force, rollbackOf, kept } = decision
  const running = current && (await manifestOf(host.store, current, newestFormat))
  const manifest = content.offered.at(-1)!.manifest
  // The manifest is compared too: after an upgrade the same document may have other defaults. A version that proxies have
  // refused is the current one already when it is forced.
  const same =
    current?.content_hash === content.content_hash && running === manifest && (current.forced === true || !force)
  const plan = planOf(current && plannedVersion(current, running!), plannedVersion(content, manifest))
  const version = same ? current.version : (current?.version ?? 0) + 1
  if (!same && !dryRun) {
    await append(host, fleet, version, decision)
    await announce(host, fleet, version)
  }
  return {
    version,
    content_hash: content.content_hash,
    created: !same && !dryRun,
    dry_run: dryRun,
    rollback_of: same ? current.rollback_of : rollbackOf,
    forced: same ? current.forced === true : force,
    plan,
    effects: effectsOf(documentOf(content), plan, await proxyIds(host, fleet)),
    kept_secrets: [...kept],
    unsupported: await unsupported(host, fleet, content),
    warnings: [...content.warnings],
  }
}

async function proxyIds({ store }: ControlHost, fleet: string): Promise<string[]> {
  return [...new Set((await listKnowledge(store, fleet)).map(({ id }) => id))]
}

/** Number of keys and of proxies that are listed. */
const listedMax = 100

async function unsupported(
  { store }: ControlHost,
  fleet: string,
  content: VersionContent,
): Promise<Written['unsupported']> {
  const used = newKeysOf(documentOf(content))
  if (used.length === 0) return []
  return unsupportedBy(used.slice(0, listedMax), await listKnowledge(store, fleet)).slice(0, listedMax)
}

async function append(host: ControlHost, fleet: string, version: number, decision: Decision): Promise<void> {
  const { content, made, message, force, rollbackOf } = decision
  const createdAt = new Date(host.nowMs()).toISOString()
  const epoch = secretEpoch(await readEpoch(host.store))
  const secrets: NewSecret[] = await Promise.all(
    made.map(async ({ value, ...fact }) => {
      const sealed = await host.sealing.seal(value, { fleet, name: fact.name, version: fact.version })
      return { fleet, ...fact, created_at: createdAt, sealed, epoch }
    }),
  )
  const { offered, poll_interval_ms, warnings: _, ...stored } = content
  await appendVersion(host.store, {
    row: {
      fleet,
      version,
      created_at: createdAt,
      message,
      rollback_of: rollbackOf,
      forced: force ? true : null,
      ...stored,
    },
    poll_interval_ms,
    offered,
    secrets,
  })
}

/** Wakes parked polls and sends hints to all proxies. */
async function announce(host: ControlHost, fleet: string, version: number): Promise<void> {
  host.parking?.wake(configTopic(fleet))
  await hintAll(host, fleet, version, 'version')
}

export async function hintAll(
  host: ControlHost,
  fleet: string,
  version: number,
  reason: Hint['reason'],
): Promise<void> {
  const epoch = await readEpoch(host.store)
  host.hints.send(await listHintTargets(host.store, fleet), { fleet, epoch, version, reason })
}

function staleVersion(version: number): ApiProblem {
  const current = `v${version}`
  return new ApiProblem('stale-version', `the current version is ${current}; nothing was stored`, {
    current,
    headers: { etag: `"${current}"` },
  })
}
