import type { MiddlewareHandler } from 'hono'
import { sha256Hex } from '../shared/hash.ts'
import { nameSchema, proxyHeader } from '../shared/wire.ts'
import { ApiProblem, noSuchFleet } from './api-problem.ts'
import type { ControlHost } from './host.ts'
import type { HotReads } from './store/poll-reads.ts'

/** The caller: the operator, or a proxy with a token of one fleet. */
export type Caller =
  { readonly kind: 'operator' } | { readonly kind: 'proxy'; readonly fleet: string; readonly tokenId: string }

export interface AppEnv {
  Variables: { caller: Caller }
}

const tokenLengthMax = 512

/** Identifies the caller by its token; responds with 401 without a valid one. */
export function authenticate(
  { operatorToken, presence }: Pick<ControlHost, 'operatorToken' | 'presence'>,
  hot: HotReads,
): MiddlewareHandler<AppEnv> {
  const operatorSha256 = sha256Hex(operatorToken)
  return async (c, next) => {
    const token = /^Bearer +([\x21-\x7e]+)$/i.exec(c.req.header('authorization') ?? '')?.[1]
    if (token === undefined || token.length > tokenLengthMax) {
      throw new ApiProblem('unauthenticated', 'a token is required: Authorization: Bearer …', {
        headers: { 'www-authenticate': 'Bearer realm="flotilla"' },
      })
    }
    // Tokens are compared by their digests, so that timing reveals nothing about a token.
    const sha256 = sha256Hex(token)
    const known = await hot.token(sha256)
    if (known !== undefined) c.set('caller', { kind: 'proxy', fleet: known.fleet, tokenId: known.id })
    else if (equalInConstantTime(sha256, operatorSha256)) c.set('caller', { kind: 'operator' })
    else {
      const proxy = nameSchema.safeParse(c.req.header(proxyHeader)).data
      const revoked = await hot.revokedTokenFleet(sha256)
      if (revoked !== undefined && proxy !== undefined) presence.refused(revoked, proxy)
      throw new ApiProblem('unauthenticated', 'unknown or revoked token', {
        headers: { 'www-authenticate': 'Bearer realm="flotilla", error="invalid_token"' },
      })
    }
    await next()
  }
}

/** Admits the operator only. */
export const operatorOnly: MiddlewareHandler<AppEnv> = async (c, next) => {
  if (c.get('caller').kind !== 'operator') throw new ApiProblem('forbidden', "this call requires the operator's token")
  await next()
}

/** Admits proxies of the fleet in the path only. */
export const proxyOnly: MiddlewareHandler<AppEnv> = async (c, next) => {
  const caller = c.get('caller')
  if (caller.kind !== 'proxy') throw new ApiProblem('forbidden', "this call requires a proxy's token")
  if (caller.fleet !== c.req.param('fleet')) throw noSuchFleet()
  await next()
}

/** Both are digests of equal length. */
function equalInConstantTime(a: string, b: string): boolean {
  let difference = a.length ^ b.length
  for (let index = 0; index < a.length; index += 1) difference |= a.charCodeAt(index) ^ b.charCodeAt(index)
  return difference === 0
}
