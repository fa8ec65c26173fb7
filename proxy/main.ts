import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { Agent, type AgentSettings } from './agent/agent.ts'
import { defaultWaits } from './agent/clock.ts'
import { unblockSignal } from './agent/libc.ts'
import { jsonLog, reasonOf, type Log } from './agent/log.ts'
import { systemLookup } from './agent/resolver.ts'
import { proxyOptions, proxySettings, UsageError } from './agent/settings.ts'

export type { AgentSettings as ProxySettings } from './agent/agent.ts'
export { proxyOptions, proxySettings, UsageError } from './agent/settings.ts'

const engineEntry = new URL('engine/main.ts', import.meta.url)
const exitDone = 0
const exitFailed = 1
const exitUsage = 2
/** Time for a crashed process to end its engine. */
const lastGaspMs = 1000

const stderrLog: Log = jsonLog(
  (line) => void process.stderr.write(line),
  () => new Date(),
)

/** Starts a proxy in this process, without signal handlers. Rejects with an error for the operator. */
export async function startProxy(settings: AgentSettings, log: Log = stderrLog): Promise<Agent> {
  const agent = newAgent(settings, log)
  await agent.start()
  return agent
}

/**
 * Runs a proxy until it is stopped, and returns the exit code. SIGTERM and SIGINT drain, a second one or SIGQUIT stops
 * at once; SIGUSR1 pauses and SIGUSR2 resumes all databases; SIGHUP polls control, or reads the file, now.
 */
export async function runProxy(settings: AgentSettings, log: Log = stderrLog): Promise<number> {
  const agent = newAgent(settings, log)
  const removeHandlers = obeySignals(agent, log)
  // The reader of the log may close the pipe; the proxy continues.
  process.stderr.on('error', () => undefined)
  try {
    await agent.start()
    const failure = await agent.ended
    return failure === null ? exitDone : exitFailed
  } catch (error) {
    log('error', 'could not start', { reason: reasonOf(error) })
    return exitFailed
  } finally {
    removeHandlers()
  }
}

function newAgent(settings: AgentSettings, log: Log): Agent {
  return new Agent(settings, {
    log,
    chance: { now: () => new Date(), random: Math.random },
    waits: defaultWaits,
    lookup: systemLookup,
    engineEntry,
  })
}

/** Signals with the effect of PAUSE and RESUME without a database at the console. */
const operationsBySignal = {
  SIGUSR1: { operation: 'pause', done: 'paused', vain: 'already paused or suspended' },
  SIGUSR2: { operation: 'resume', done: 'resumed', vain: 'neither paused nor suspended' },
} as const

/** Returns a function that removes the handlers. */
function obeySignals(agent: Agent, log: Log): () => void {
  let asked = false
  const stop = (mode: 'drain' | 'now'): void => {
    void agent.stop(asked ? 'now' : mode)
    asked = true
  }
  const handlers: Partial<Record<NodeJS.Signals, () => void>> = {
    SIGTERM: () => stop('drain'),
    SIGINT: () => stop('drain'),
    SIGQUIT: () => stop('now'),
    SIGHUP: () => void reload(agent, log),
    SIGUSR1: () => void obey(agent, log, 'SIGUSR1'),
    SIGUSR2: () => void obey(agent, log, 'SIGUSR2'),
  }
  const received = (signal: NodeJS.Signals): void => {
    log('info', 'signal received', { signal })
    handlers[signal]?.()
  }
  const fell = (error: unknown): void => {
    log('error', 'internal error, exiting', {
      reason: reasonOf(error),
      stack: error instanceof Error ? (error.stack ?? null) : null,
    })
    void fall(agent)
  }
  const signals = Object.keys(handlers) as NodeJS.Signals[] // the keys of a record of signals
  for (const signal of signals) process.on(signal, received)
  process.on('uncaughtException', fell)
  unblockSignal(constants.signals.SIGUSR1)
  return () => {
    for (const signal of signals) process.off(signal, received)
    process.off('uncaughtException', fell)
  }
}

async function reload(agent: Agent, log: Log): Promise<void> {
  const error = await agent.reload()
  if (error === null) log('info', 'reloaded')
  else log('error', 'reload failed', { reason: error })
}

async function obey(agent: Agent, log: Log, signal: keyof typeof operationsBySignal): Promise<void> {
  const { operation, done, vain } = operationsBySignal[signal]
  try {
    if (await agent.operateAll(operation)) log('info', done)
    else log('warn', `${operation} had no effect`, { reason: vain })
  } catch (error) {
    log('error', `${operation} failed`, { reason: reasonOf(error) })
  }
}

async function fall(agent: Agent): Promise<void> {
  // The process cannot exit by itself while the engine's thread blocks in its loop.
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), lastGaspMs)
  await agent.stop('now')
  process.exit(exitFailed)
}

function packageVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

function usage(): string {
  const lines = Object.entries(proxyOptions).map(
    ([name, { variable, value, help }]) => `  --${name} ${value}\n      ${help} [${variable}]`,
  )
  return `usage: proxy --control URL --fleet NAME [options]\n       proxy --config FILE [options]\n\n${lines.join('\n')}\n`
}

async function main(words: readonly string[]): Promise<number> {
  if (words.includes('--help')) {
    process.stdout.write(usage())
    return exitDone
  }
  try {
    return await runProxy(proxySettings(words, process.env, packageVersion()))
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    process.stderr.write(`proxy: ${error.message}\n`)
    return exitUsage
  }
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)))
