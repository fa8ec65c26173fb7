/**
 * What a document says of servers that users of a database share, because they log in as one role. How these are opened is
 * said once; what a user says of them otherwise has no effect, and a warning tells so.
 */
import type { PasswordSource, WrittenUser } from './credentials.ts'
import { isOfServers, usersOf } from './effective.ts'
import { poolKeys } from './keys.ts'
import type { PoolKey } from './keys.ts'
import { join } from './problems.ts'
import type { Problem, Problems } from './problems.ts'
import type { FleetDocument } from './sections.ts'

/** A user of shared servers, with the values of its own section that are not those of its servers. */
interface Sharer {
  readonly user: WrittenUser
  readonly path: string
  readonly unused: readonly PoolKey[]
}

/** The users of each role that have its servers together, by name. */
function sharersOf(document: FleetDocument, pool: string, written: readonly WrittenUser[]): Sharer[][] {
  const { users } = document.pools[pool]!
  const groups = new Map<string, Sharer[]>()
  const sharers = written.filter(({ sharedRole }) => sharedRole !== null)
  for (const user of sharers.sort((one, other) => (one.user < other.user ? -1 : 1))) {
    const { user: name, sharedRole, values } = user as WrittenUser & { sharedRole: string } // by the filter
    const own = Object.entries(users[name]!).filter(([key]) => isOfServers(key)) as [PoolKey, unknown][]
    const unused = own.filter(([key, value]) => value !== values[key]).map(([key]) => key)
    const sharer = { user, path: join(join(join('pools', pool), 'users'), name), unused }
    const group = groups.get(sharedRole)
    if (group === undefined) groups.set(sharedRole, [sharer])
    else group.push(sharer)
  }
  return [...groups.values()]
}

/** Adds a problem where users of shared servers differ in how these are opened. `written`: the users of the pool. */
export function checkSharedServers(
  document: FleetDocument,
  pool: string,
  written: readonly WrittenUser[],
  problems: Problems,
): void {
  const remedy = `set it in [${join('pools', pool)}] only, or use another server_user`
  for (const sharers of sharersOf(document, pool, written)) {
    const [first, second] = sharers as [Sharer, Sharer] // never fewer
    for (const sharer of sharers) {
      const other = sharer === first ? second : first
      const shares = `and ${other.path} log in to servers as "${sharer.user.sharedRole}" and share them`
      for (const key of sharer.unused) {
        if (poolKeys[key].class === 'connect')
          problems.add(join(sharer.path, key), `must not differ: it ${shares}; ${remedy}`)
      }
      if (sharer === first || logsInAlike(document, pool, first, sharer)) continue
      const fault = `must be that of ${first.path}: both log in to servers as "${sharer.user.sharedRole}" and share them`
      problems.add(join(sharer.path, 'server_password'), `${fault}; ${remedy}`)
    }
  }
}

/** Values of users without effect, because they are about servers that the users share. */
export function unusedValues(document: FleetDocument): Problem[] {
  return Object.entries(document.pools).flatMap(([pool, { users }]) =>
    sharersOf(document, pool, Object.keys(users).map(usersOf(document, pool))).flatMap((sharers) =>
      sharers.flatMap(({ user, path, unused }, at) =>
        unused.map((key): Problem => {
          const other = (sharers[at === 0 ? 1 : 0] as Sharer).path
          const shares = `servers of role "${user.sharedRole}" are shared with ${other}`
          const message = `has no effect: ${shares}, and take ${key} = ${user.values[key]} from [${join('pools', pool)}]`
          return { path: join(path, key), message }
        }),
      ),
    ),
  )
}

/** Literals in two places become two secrets, whose values may change apart. */
function logsInAlike(document: FleetDocument, pool: string, one: Sharer, other: Sharer): boolean {
  const [first, second] = [sourceOf(one.user), sourceOf(other.user)]
  if (isNone(first) || isNone(second)) return isNone(first) && isNone(second)
  if (typeof first === 'object' && typeof second === 'object') return sameReference(first, second)
  const { users } = document.pools[pool]!
  const inherits = ({ user }: Sharer): boolean => {
    const own = users[user.user]!
    return (
      own.server_password === undefined && (user.sources['server_password'] !== undefined || own.password === undefined)
    )
  }
  return first === second && inherits(one) && inherits(other)
}

function sourceOf({ sources }: WrittenUser): PasswordSource | undefined {
  return sources['server_password'] ?? sources['password']
}

function isNone(source: PasswordSource | undefined): source is undefined | '' {
  return source === undefined || source === ''
}

function sameReference(one: Exclude<PasswordSource, string>, other: Exclude<PasswordSource, string>): boolean {
  if ('env' in one || 'env' in other) return 'env' in one && 'env' in other && one.env === other.env
  return one.secret === other.secret && one.version === other.version
}
