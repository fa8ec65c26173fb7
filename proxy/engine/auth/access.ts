/** What is required of a client: by `auth_type`, by the rules of `auth_hba`, by `client_tls_sslmode`. */
import { firstMatch } from '../../../shared/config/hba.ts'
import type { HbaMethod } from '../../../shared/config/hba.ts'
import { mayBe } from '../../../shared/config/ident.ts'
import { parseIp } from '../../../shared/config/network.ts'
import type { EngineGeneralSettings, PoolSettings } from '../../../shared/config/settings.ts'
import { SqlError } from '../../../shared/errors.ts'
import { isUnix } from '../../io/io.ts'
import type { Socket } from '../../io/io.ts'
import type { AccessRules } from '../../spec.ts'
import type { Replication } from '../session/replication.ts'
import { certificateRefused } from './methods.ts'
import type { Claim } from './methods.ts'

/** A connecting user, and its connection. */
export interface Visitor {
  readonly database: string
  readonly user: string
  /** Requested kind of replication; null for an ordinary session. */
  readonly replication: Replication | null
  readonly socket: Pick<Socket, 'remote' | 'tls'>
}

type Demanded = Pick<Claim, 'method' | 'certified'>

/**
 * The method by which a visitor must authenticate; its certificate has been checked. It depends only on what is the
 * same for known and unknown users. Throws SqlError 28000 with PostgreSQL's text.
 */
export function demandOf(
  visitor: Visitor,
  { authType, authIdentMap }: Pick<PoolSettings, 'authType' | 'authIdentMap'>,
  { rules, maps }: AccessRules,
  general: EngineGeneralSettings,
): Demanded {
  const { user, socket } = visitor
  const { method, map, clientcert } =
    authType === 'hba'
      ? ruleFor(visitor, rules)
      : { method: authType, map: authIdentMap === '' ? null : authIdentMap, clientcert: null }
  const name = socket.tls?.peerName ?? null
  const certified = name !== null && mayBe(maps, map, name, user)
  // A Unix socket cannot be eavesdropped, and TLS is not offered there.
  const local = isUnix(socket.remote)
  if ((method === 'cert' || clientcert !== null) && name === null) {
    throw new SqlError('invalid_authorization_specification', 'connection requires a valid client certificate')
  }
  if (general.clientTlsSslmode === 'verify-full' && !certified && !local) throw otherName(user)
  if (clientcert === 'verify-full' && !certified) throw certificateRefused(user)
  if (method === 'plain' && socket.tls === null && !local && general.clientPlainAllowed === 'off') {
    throw new SqlError('invalid_authorization_specification', 'cleartext passwords require TLS (client_plain_allowed)')
  }
  return { method, certified }
}

export function otherName(user: string): SqlError {
  return new SqlError(
    'invalid_authorization_specification',
    `certificate authentication failed for user "${user}": the certificate's common name does not match`,
  )
}

const methodsOfRules: Readonly<Record<Exclude<HbaMethod, 'reject'>, Claim['method']>> = {
  trust: 'trust',
  password: 'plain',
  md5: 'md5',
  'scram-sha-256': 'scram-sha-256',
  cert: 'cert',
}

function ruleFor(
  { database, user, replication, socket }: Visitor,
  rules: AccessRules['rules'],
): { method: Claim['method']; map: string | null; clientcert: 'verify-ca' | 'verify-full' | null } {
  const tls = socket.tls !== null
  const address = parseIp(socket.remote.host) ?? null
  const rule = firstMatch(rules, {
    database,
    user,
    address,
    tls,
    // Logical replication connects to a database like any session (manual, "The pg_hba.conf File").
    replication: replication?.mode === 'physical',
  })
  const described = `host "${address === null ? '[local]' : socket.remote.host}", user "${user}", database "${database}", ${
    tls ? 'SSL encryption' : 'no encryption'
  }`
  if (rule === undefined) {
    throw new SqlError('invalid_authorization_specification', `no auth_hba entry for ${described}`)
  }
  if (rule.method === 'reject') {
    throw new SqlError('invalid_authorization_specification', `auth_hba rejects connection for ${described}`)
  }
  return { method: methodsOfRules[rule.method], map: rule.map, clientcert: rule.clientcert }
}
