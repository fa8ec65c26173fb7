import { formatDuration, parseDuration } from '../../../shared/config/duration.ts'
import { generalKeys, poolKeys } from '../../../shared/config/keys.ts'
import type { GeneralKey, KeySpec, PoolKey } from '../../../shared/config/keys.ts'
import { writtenValue } from '../../../shared/config/settings.ts'
import type { OperatedEngine } from '../operated-engine.ts'
import { common, compare } from '../pools.ts'
import { texts } from '../table.ts'
import type { Row, Table } from '../table.ts'

/**
 * All keys of the configuration. A key of pools shows the value of all running pools, or `varies`. `changeable` means
 * by a new version, without restarting the proxy.
 */
export const config: Table = {
  columns: texts('key', 'value', 'default', 'changeable'),
  join: null,
  rows: (engine) =>
    [...generalRows(engine), ...poolRows(engine), ...expectedRows(engine)].sort((a, b) =>
      compare(String(a[0]), String(b[0])),
    ),
}

function generalRows(engine: OperatedEngine): Row[] {
  const keys = Object.entries<KeySpec>(generalKeys)
  return keys.map(([key, spec]) => rowOf(key, String(engine.generalValues[key] ?? defaultOf(spec)), spec))
}

function poolRows(engine: OperatedEngine): Row[] {
  const running = [...engine.pools.all()].flatMap((pool) => pool.spec ?? [])
  return Object.entries<KeySpec>(poolKeys).map(([key, spec]) => {
    const value = common(running, ({ settings }) => writtenValue(key as PoolKey, settings))
    if (value !== null || running.length === 0) return rowOf(key, value ?? defaultOf(spec), spec)
    // Monitoring tools calculate with it.
    const largest = Math.max(...running.map(({ settings }) => settings.maxUserConnections))
    return rowOf(key, key === 'max_user_connections' ? String(largest) : 'varies', spec)
  })
}

/** Monitoring tools calculate with it; the name is PgBouncer's. */
function expectedRows(engine: OperatedEngine): Row[] {
  const key: GeneralKey = 'max_client_connections'
  const spec = generalKeys[key]
  return [['max_client_conn', String(engine.context.general.maxClientConnections), String(spec.default), 'yes']]
}

function rowOf(key: string, value: string, spec: KeySpec): Row {
  return [key, value, defaultOf(spec), spec.class === 'process' ? 'no' : 'yes']
}

/** In canonical spelling. */
function defaultOf(spec: KeySpec): string {
  return spec.type === 'duration' ? formatDuration(parseDuration(spec.default)!) : String(spec.default)
}
