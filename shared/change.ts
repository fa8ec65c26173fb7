export interface Hashes {
  /** Of the whole effective configuration. */
  readonly hash: string
  /** Of what servers are opened with: the keys of class connect. */
  readonly connectHash: string
}

/**
 * What a configuration does to the pool that runs. Control plans by it, and the engine applies by it.
 *
 *   running    hash       connect hash
 *   no                                   add      a new pool
 *   yes        equal                     keep     nothing changes
 *   yes        different  equal          retune   the servers stay and take the new values
 *   yes        different  different      rebuild  new servers; the old ones drain
 */
export type Change = 'add' | 'keep' | 'retune' | 'rebuild'

export function changeOf(running: Hashes | undefined, desired: Hashes): Change {
  if (running === undefined) return 'add'
  if (running.hash === desired.hash) return 'keep'
  return running.connectHash === desired.connectHash ? 'retune' : 'rebuild'
}

/** What plans, outcomes and logs call a change that was made. */
export const pastOf = {
  add: 'added',
  keep: 'kept',
  retune: 'retuned',
  rebuild: 'rebuilt',
} as const satisfies Record<Change, string>
