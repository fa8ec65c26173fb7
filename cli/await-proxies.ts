/** `--wait`: follows all proxies until each runs the version or rejects it, or the timeout expires. */
import { setTimeout as sleep } from 'node:timers/promises'
import { proxiesSchema } from '../shared/api.ts'
import type { Proxy } from '../shared/api.ts'
import type { Api } from './api.ts'
import type { OptionSpecs } from './arguments.ts'
import { wholeNumber } from './arguments.ts'
import type { ExitCode, Surroundings } from './command.ts'

export const waitOptions = {
  wait: { type: 'boolean', help: 'wait until every proxy runs the version, and print each change' },
  timeout: { type: 'string', value: 'SECONDS', help: 'maximum time to wait (60)' },
} as const satisfies OptionSpecs

/** Interval between polls of the list. */
const lookAgainMs = 200

type Outcome = { readonly done: boolean; readonly failed: boolean; readonly text: string }

/**
 * Resolves to 0 when all online proxies run `version` or a later one, to 1 if one rejected it or the timeout expired.
 * Offline proxies are printed and skipped: they apply the version when they return.
 */
export async function awaitProxies(
  api: Api,
  version: number,
  timeout: string | undefined,
  { say, stop }: Pick<Surroundings, 'say' | 'stop'>,
): Promise<ExitCode> {
  const deadlineMs = Date.now() + wholeNumber('--timeout', timeout ?? '60', 1, 3600) * 1000
  const said = new Map<string, string>()
  for (;;) {
    const { proxies } = await api.inFleet(proxiesSchema, '/proxies')
    const outcomes = proxies.map((proxy) => ({ id: proxy.id, ...outcomeOf(proxy, version) }))
    for (const { id, text } of outcomes) {
      if (said.get(id) !== text) say(`${id}: ${text}`)
      said.set(id, text)
    }
    if (outcomes.length === 0) say('no proxy has joined this fleet yet')
    if (outcomes.every(({ done }) => done)) return outcomes.some(({ failed }) => failed) ? 1 : 0
    if (Date.now() > deadlineMs) {
      say(`not all proxies run v${version} yet; they keep trying`)
      return 1
    }
    await sleep(lookAgainMs, undefined, { signal: stop })
  }
}

function outcomeOf(proxy: Proxy, version: number): Outcome {
  const { state, applied, offered, error } = proxy
  if (applied !== null && applied.version >= version)
    return { done: true, failed: false, text: `runs v${applied.version}` }
  if (state === 'offline')
    return { done: true, failed: false, text: `is offline; it will apply v${version} when it is back` }
  if (error !== null && offered !== null && offered.version >= version) {
    return { done: true, failed: true, text: `rejected v${offered.version}: ${refusalText(error)}` }
  }
  return {
    done: false,
    failed: false,
    text: applied === null ? 'runs no version yet' : `still runs v${applied.version}`,
  }
}

/** "unresolvable_host in app/web: db.internal is not known" */
export function refusalText(error: NonNullable<Proxy['error']>): string {
  const where = error.pool === null ? '' : ` in ${error.pool}${error.user === null ? '' : `/${error.user}`}`
  return `${error.code}${where}: ${error.message}`
}
