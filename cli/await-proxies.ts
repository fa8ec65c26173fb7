/** `--wait`: follows all proxies until each runs the version or rejects it, or the timeout expires. */
import { setTimeout as sleep } from 'node:timers/promises'
import { proxiesSchema, proxyStates } from '../shared/api.ts'
import type { Proxy } from '../shared/api.ts'
import type { Api } from './api.ts'
import type { OptionSpecs } from './arguments.ts'
import { wholeNumber } from './arguments.ts'
import type { ExitCode, Surroundings } from './command.ts'
import { WrongUsage } from './failure.ts'

export const waitOptions = {
  wait: { type: 'boolean', help: 'wait until every proxy runs exactly this version and serves, and print each change' },
  timeout: { type: 'string', value: 'SECONDS', help: 'maximum time to wait (60)' },
  'allow-offline': {
    type: 'string',
    value: 'N',
    help: 'with --wait, succeed although up to N proxies are offline (0)',
  },
} as const satisfies OptionSpecs

export interface WaitOptions {
  readonly wait: boolean
  readonly timeout: string | undefined
  readonly 'allow-offline': string | undefined
}

/** Interval between polls of the list. */
const lookAgainMs = 200
const offlineMax = 100_000

/**
 * What one proxy adds to the exit code. `waits`: it may still come to run the version; when the time is over it counts as
 * `late`.
 */
export type Outcome =
  { readonly kind: 'runs' | 'failed' | 'offline' } | { readonly kind: 'waits'; readonly late: 'failed' | 'not_reached' }

/** @throws WrongUsage, also where the option has no effect */
export function allowedOffline({ wait, 'allow-offline': text }: Omit<WaitOptions, 'timeout'>): number {
  if (text === undefined) return 0
  if (!wait) throw new WrongUsage('--allow-offline has no effect without --wait')
  return wholeNumber('--allow-offline', text, 0, offlineMax)
}

/**
 * Resolves to 0 when all proxies run exactly `version` and serve, to 1 if one rejected it or does not serve, and to 3 if
 * one was not reached: it is offline, there is none, the version was replaced, or the timeout expired.
 */
export async function awaitProxies(
  api: Api,
  version: number,
  options: WaitOptions,
  { say, stop }: Pick<Surroundings, 'say' | 'stop'>,
): Promise<ExitCode> {
  const offline = allowedOffline(options)
  const deadlineMs = Date.now() + wholeNumber('--timeout', options.timeout ?? '60', 1, 3600) * 1000
  const said = new Map<string, string>()
  for (;;) {
    const { position, proxies } = await api.inFleet(proxiesSchema, '/proxies')
    if (position.version !== version) {
      say(`v${position.version} has replaced v${version} meanwhile`)
      return exitCodes.notReached
    }
    for (const proxy of proxies) {
      const text = textOf(proxy, version)
      const key = `${proxy.id} ${proxy.boot}`
      if (said.get(key) !== text) say(`${proxy.id}: ${text}`)
      said.set(key, text)
    }
    const outcomes = proxies.map(outcomeOf)
    if (outcomes.every(({ kind }) => kind !== 'waits')) return exitCode(outcomes, offline, say)
    if (Date.now() > deadlineMs) {
      say(`not all proxies run v${version} and serve yet; they keep trying`)
      return exitCode(outcomes, offline, say)
    }
    await sleep(lookAgainMs, undefined, { signal: stop })
  }
}

const exitCodes = { fine: 0, failed: 1, notReached: 3 } as const

/** Of all proxies; `say` tells what is not about one of them. */
export function exitCode(outcomes: readonly Outcome[], offlineMaximum: number, say: (line: string) => void): ExitCode {
  if (outcomes.length === 0) say('no proxy has joined this fleet yet')
  const last = outcomes.map((outcome) => (outcome.kind === 'waits' ? outcome.late : outcome.kind))
  if (last.includes('failed')) return exitCodes.failed
  const offline = last.filter((kind) => kind === 'offline').length
  const isReached = outcomes.length > 0 && offline <= offlineMaximum && !last.includes('not_reached')
  return isReached ? exitCodes.fine : exitCodes.notReached
}

/** By the proxy's state, which is about the current version. */
export function outcomeOf({ state }: Pick<Proxy, 'state'>): Outcome {
  const known = proxyStates.find((one) => one === state)
  switch (known) {
    case 'in_sync':
      return { kind: 'runs' }
    // It keeps trying where the cause may pass, but an operator should know at once.
    case 'failed':
      return { kind: 'failed' }
    case 'offline':
      return { kind: 'offline' }
    case 'degraded':
    case 'drifted':
    case 'duplicate':
    case 'regressed':
      return { kind: 'waits', late: 'failed' }
    case 'applying':
    case 'behind':
    // Of a later release of control.
    case undefined:
      return { kind: 'waits', late: 'not_reached' }
    default:
      return known satisfies never
  }
}

function textOf({ state, reasons, error }: Proxy, version: number): string {
  const why = reasons.join('; ')
  switch (state) {
    case 'in_sync':
      return `runs v${version}`
    case 'offline':
      return `is offline (${why}); it will apply v${version} when it is back`
    case 'failed':
      return `rejected v${version}: ${error === null ? why : refusalText(error)}`
    case 'applying':
    case 'behind':
      return why === '' ? state : why.replace(/^it runs v/, 'still runs v').replace(/^it /, '')
    default:
      return `${state}: ${why}`
  }
}

/** "unresolvable_host in app/web: db.internal is not known" */
export function refusalText(error: NonNullable<Proxy['error']>): string {
  const where = error.pool === null ? '' : ` in ${error.pool}${error.user === null ? '' : `/${error.user}`}`
  return `${error.code}${where}: ${error.message}`
}

/** Why it is not in sync, and what else operators should know of it; null if nothing. */
export function notesOf(proxy: Proxy): string | null {
  const { reasons, operated, problems, needs_restart } = proxy
  const isTold = reasons.some((reason) => / (is|was) (paused|disabled|suspended|SET) /.test(`${reason} `))
  const notes = [
    ...reasons,
    ...(isTold || operated.paused.length === 0 ? [] : [`paused: ${operated.paused.join(', ')}`]),
    ...(isTold || operated.disabled.length === 0 ? [] : [`disabled: ${operated.disabled.join(', ')}`]),
    ...problems.map(({ code, message }) => `${code}: ${message}`),
    ...(needs_restart.length === 0 ? [] : [`needs a restart: ${needs_restart.join(', ')}`]),
  ]
  return notes.length === 0 ? null : notes.join('; ')
}
