import { textLengths } from '../../shared/disconnect.ts'
import type { Disconnect, EngineDisconnect } from '../../shared/disconnect.ts'

/** The event sent to control for a lost server. `id` is unique over all boots of all proxies. */
export function eventOf(disconnect: EngineDisconnect, id: string, at: Date): Disconnect {
  const cut = (field: keyof typeof textLengths): string | null =>
    disconnect[field]?.slice(0, textLengths[field]) ?? null
  return {
    id,
    at: at.toISOString(),
    ...disconnect,
    errno: cut('errno'),
    sqlstate: cut('sqlstate'),
    message: cut('message'),
  }
}
