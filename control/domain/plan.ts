import type { Plan } from '../../shared/api.ts'
import { changeOf, pastOf } from '../../shared/change.ts'
import type { Hashes } from '../../shared/change.ts'
import type { PoolHash } from '../../shared/config/effective.ts'
import { canonicalJson } from '../../shared/hash.ts'
import { changedSecrets } from './secrets.ts'
import type { PlannedVersion } from './version.ts'

/**
 * What the change from `before` (undefined: no version) to `after` means for each pool. Proxies decide by the same
 * rule.
 */
export function planOf(before: PlannedVersion | undefined, after: PlannedVersion): Plan {
  const plan: Plan = { added: [], rebuilt: [], retuned: [], removed: [], kept: [], general: [], secrets: [] }
  const old = new Map((before?.pools ?? []).map((line) => [nameOf(line), line]))
  for (const line of after.pools) {
    const was = old.get(nameOf(line))
    old.delete(nameOf(line))
    const change = changeOf(was && hashesOf(was), hashesOf(line))
    plan[pastOf[change]].push({ pool: line.pool, user: line.user })
  }
  for (const { pool, user } of old.values()) plan.removed.push({ pool, user })
  plan.general = changedGeneral(before, after)
  plan.secrets = before === undefined ? [] : changedSecrets(before.document, after.document)
  return plan
}

function hashesOf({ hash, connect_hash }: PoolHash): Hashes {
  return { hash, connectHash: connect_hash }
}

function nameOf({ pool, user }: PoolHash): string {
  return JSON.stringify([pool, user])
}

/** Changed keys of [general], then changed "admin_users.NAME" and "stats_users.NAME". */
function changedGeneral(before: PlannedVersion | undefined, after: PlannedVersion): string[] {
  const [old, now] = [before, after].map((content) => {
    const lines = new Map<string, string>()
    for (const [key, value] of Object.entries(content?.general.settings ?? {})) lines.set(key, String(value))
    for (const user of content?.general.console_users ?? []) {
      lines.set(`${user.right}_users.${user.user}`, canonicalJson(user))
    }
    return lines
  })
  // A first version changes no existing settings.
  if (before === undefined) return []
  const keys = new Set([...old!.keys(), ...now!.keys()])
  return [...keys].filter((key) => old!.get(key) !== now!.get(key))
}
