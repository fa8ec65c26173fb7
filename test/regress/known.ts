/** Files that are expected to fail, grouped by the first cause that their diffs show. */
import type { Mode, Suite } from './options.ts'

export interface KnownCause {
  readonly reason: string
  readonly files: readonly string[]
}

type Judged = Exclude<Mode, 'pgbouncer'>

const startupValueLost: KnownCause = {
  reason: 'RESET of a startup parameter (datestyle) gives the default of the server, not what the client started with',
  files: words('date horology timestamp timestamptz'),
}

const inSession: readonly KnownCause[] = [
  startupValueLost,
  {
    reason: 'as above, and the server has loaded PL/pgSQL for an earlier client, which reserves its prefix',
    files: words('guc'),
  },
  {
    reason: 'the server has a schema for temporary tables from an earlier client, so that naming it creates none',
    files: words('temp'),
  },
  {
    reason: 'a reconnect of the client is no new session in the statistics of the database',
    files: words('stats'),
  },
]

const inTransaction: readonly KnownCause[] = [
  {
    reason: 'SET of client_min_messages ends with its transaction',
    files: words(
      'alter_generic alter_table foreign_data object_address privileges publication rowsecurity security_label',
    ),
  },
  {
    reason: 'SET of a planner setting or limit of memory (enable_*, work_mem, parallel_*, …) ends with its transaction',
    files: words(`
      brin brin_multi btree_index create_index equivclass gist incremental_sort index_including index_including_gist inet
      json jsonb memoize partition_aggregate partition_join rangetypes select select_distinct select_parallel tidrangescan
      tidscan tsearch tsrf union vacuum_parallel`),
  },
  {
    reason: 'SET of a format (extra_float_digits, bytea_output, xmlbinary) ends with its transaction',
    files: words('aggregates circle geometry point strings tstypes xml'),
  },
  {
    reason: 'SET of another parameter (password_encryption, session_replication_role, …) ends with its transaction',
    files: words('create_am explain guc password tablespace triggers'),
  },
  {
    reason: 'SET search_path ends with its transaction',
    files: words('collate collate.icu.utf8 create_view expressions matview namespace temp'),
  },
  {
    reason: 'SET ROLE or SET SESSION AUTHORIZATION ends with its transaction',
    files: words(`
      alter_operator cluster constraints create_function_sql create_procedure create_role create_schema dependency
      event_trigger generated insert lock merge multirangetypes select_into stats_ext subscription updatable_views update`),
  },
  startupValueLost,
  {
    reason: 'the publication testpub_forschema is left over from publication, which lost its role',
    files: words(`
      compression copy2 domain foreign_key indexing indirect_toast partition_prune plpgsql stats with`),
  },
  {
    reason: 'an object is left over from an earlier file that lost its role or search_path',
    files: words('fast_default largeobject rangefuncs select_views'),
  },
]

/** A mode without an entry is only reported. */
export const known: Readonly<Record<Suite, Partial<Readonly<Record<Judged, readonly KnownCause[]>>>>> = {
  regress: { direct: [], session: inSession, transaction: inTransaction },
  isolation: { direct: [], session: [] },
}

function words(text: string): string[] {
  return text.split(/\s+/).filter((word) => word !== '')
}
