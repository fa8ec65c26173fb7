/** Gives orders: reads the current state and writes the next order, again if another writer was first. */
import type { OperationRequestBody } from '../shared/api.ts'
import { wildcard } from '../shared/config/wildcard.ts'
import { operations } from '../shared/operations.ts'
import type { PoolOperation } from '../shared/operations.ts'
import { ApiProblem, noSuchFleet } from './api-problem.ts'
import { stands } from './domain/orders.ts'
import { poolsOf } from './domain/proxy-view.ts'
import { desiredHashes } from './domain/version.ts'
import type { ControlHost } from './host.ts'
import { listOrders, logOperation, putOrder } from './store/orders.ts'
import type { OrderRow } from './store/orders.ts'
import type { HotReads, Offer } from './store/poll-reads.ts'
import { GuardFailed } from './store/port.ts'
import { listProxies } from './store/proxies.ts'

export interface OrderRequest extends OperationRequestBody {
  readonly fleet: string
  readonly pool: string
  readonly operation: PoolOperation
  /** The name of the caller. */
  readonly actor: string
}

/** What was stored; `order` is null for an operation of the moment. */
export interface Ordered {
  readonly epoch: number
  readonly order: OrderRow | null
}

/** Number of attempts when other writers are first. */
const attemptsMax = 8

/** Throws an ApiProblem: not-found, invalid. */
export async function order(host: ControlHost, hot: HotReads, request: OrderRequest): Promise<Ordered> {
  for (let attempt = 1; ; attempt += 1) {
    const offer = await hot.offer(request.fleet)
    if (offer === undefined) throw noSuchFleet()
    const orders = await listOrders(host.store, request.fleet)
    await requirePool(host, hot, { request, offer, orders })
    try {
      return { epoch: offer.epoch, order: await write(host, request, { offer, orders }) }
    } catch (error) {
      if (!(error instanceof GuardFailed) || attempt >= attemptsMax) throw error
    }
  }
}

interface Found {
  readonly offer: Offer
  readonly orders: readonly OrderRow[]
}

async function write(host: ControlHost, request: OrderRequest, { offer, orders }: Found): Promise<OrderRow | null> {
  const { fleet, pool, operation, actor, reason = null } = request
  const spec = operations[operation].order
  const nowMs = host.nowMs()
  const at = new Date(nowMs).toISOString()
  if (request.for !== undefined && spec?.begins !== true) {
    throw new ApiProblem('invalid', `${operation} does not end by itself`, {
      errors: [{ path: 'for', message: 'only for pause, disable and kill' }],
    })
  }
  const expires_at = request.for === undefined ? null : new Date(nowMs + request.for * 1000).toISOString()
  const logged = { pool, operation, actor, reason, at, expires_at }
  if (spec === null) {
    await logOperation(host.store, fleet, logged)
    return null
  }
  const was = orders.find((one) => one.pool === pool && one.effect === spec.effect)
  const next = {
    fleet,
    pool,
    effect: spec.effect,
    operation,
    number: offer.order_number + 1,
    version: offer.version,
    actor,
    reason,
    created_at: at,
    expires_at,
  }
  // A repetition reaches all proxies anew, but what stands has stood since the first.
  const isRepeated = was !== undefined && isSame(was, next) && stands(was, nowMs)
  const row = isRepeated ? { ...next, created_at: was.created_at } : next
  await putOrder(host.store, row, isRepeated ? undefined : logged, nowMs)
  return row
}

function isSame(one: OrderRow, other: OrderRow): boolean {
  const fields = ['operation', 'actor', 'reason', 'expires_at'] as const
  return fields.every((field) => one[field] === other[field])
}

/** A misspelt name must not be paused: the pool is in the current version, at a proxy, or ordered about. */
async function requirePool(
  host: ControlHost,
  hot: HotReads,
  { request: { fleet, pool }, offer, orders }: Found & { readonly request: OrderRequest },
): Promise<void> {
  const manifest = await hot.manifest(fleet, offer.version, 1)
  const names = new Set(manifest === undefined ? [] : desiredHashes(manifest).map((line) => line.pool))
  // "*" stands for any other database.
  if (names.has(pool) || names.has(wildcard)) return
  if (orders.some((one) => one.pool === pool && stands(one, host.nowMs()))) return
  const proxies = await listProxies(host.store, fleet)
  if (proxies.some((proxy) => poolsOf(proxy).some((one) => one.pool === pool))) return
  throw new ApiProblem(
    'not-found',
    `no pool "${pool}" in version ${offer.version} of the fleet or at any of its proxies`,
  )
}
