/** `--wait`: follows every proxy until it runs a version, refuses it, or time is up. */
import { setTimeout as sleep } from 'node:timers/promises'
import { proxiesSchema } from '../shared/api.ts'
import type { Proxy } from '../shared/api.ts'
import type { Api } from './api.ts'
import type { OptionSpecs } from './arguments.ts'
import { wholeNumber } from './arguments.ts'
import type { ExitCode, Surroundings } from './command.ts'

export const waitOptions = {
  wait: { type: 'boolean', help: 'wait until every proxy runs it, and show each as it does' },
  timeout: { type: 'string', value: 'SECONDS', help: 'how long to wait (60)' },
} as const satisfies OptionSpecs

/** Between two looks at the list. */
const lookAgainMs = 200

type Outcome = { readonly done: boolean; readonly failed: boolean; readonly text: string }

/**
 * Resolves 0 when every proxy that is online runs `version` or a later one, 1 when one refused it or time was up.
 * A proxy that is offline is named and not waited for: it takes the version when it is back.
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
      say(`not every proxy runs v${version} yet; they keep trying`)
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
    return { done: true, failed: false, text: `is offline; it takes v${version} when it is back` }
  if (error !== null && offered !== null && offered.version >= version) {
    return { done: true, failed: true, text: `refused v${offered.version}: ${refusalText(error)}` }
  }
  return { done: false, failed: false, text: applied === null ? 'runs nothing yet' : `still runs v${applied.version}` }
}

/** "unresolvable_host in app/web: db.internal is not known" */
export function refusalText(error: NonNullable<Proxy['error']>): string {
  const where = error.pool === null ? '' : ` in ${error.pool}${error.user === null ? '' : `/${error.user}`}`
  return `${error.code}${where}: ${error.message}`
}
