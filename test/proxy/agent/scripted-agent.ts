import { Agent, type AgentSettings, type SourceSettings } from '../../../proxy/agent/agent.ts'
import { defaultWaits, type Waits } from '../../../proxy/agent/clock.ts'
import type { LogFields, LogLevel } from '../../../proxy/agent/log.ts'
import type { Lookup } from '../../../proxy/agent/resolver.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { enginePort, ScriptedEngine, scriptedEntry } from './scripted-engine.ts'
import { until } from './until.ts'

export interface Logged {
  readonly level: LogLevel
  readonly message: string
  readonly fields: LogFields
}

interface Given {
  readonly source: SourceSettings
  readonly waits?: Partial<Waits>
  readonly lookup?: Lookup
  readonly hintUrl?: string
  readonly environment?: Record<string, string | undefined>
  /** How far its clock is ahead. */
  readonly aheadMs?: number
  /** Leaves the listener to the configuration, which must name this port. */
  readonly listenPort?: number
}

/** Waits short enough for a test and long enough not to happen by chance. */
const shortWaits: Waits = {
  ...defaultWaits,
  backoffFirstMs: 20,
  backoffMaxMs: 200,
  reportIntervalMs: 60_000,
}

/** An agent with a scripted engine, and what it logged. */
export class ScriptedAgent {
  readonly agent: Agent
  readonly engine: ScriptedEngine
  readonly log: Logged[] = []

  constructor(given: Given) {
    const port = given.listenPort ?? enginePort()
    this.engine = new ScriptedEngine(port)
    const settings: AgentSettings = {
      source: given.source,
      listen: given.listenPort === undefined ? { host: '127.0.0.1', port } : { host: null, port: null },
      workers: null,
      ioUring: true,
      takeover: null,
      http: { host: '127.0.0.1', port: 0 },
      httpToken: null,
      hintUrl: given.hintUrl ?? null,
      peerHost: null,
      region: null,
      version: '0.0.0',
      environment: given.environment ?? {},
    }
    this.agent = new Agent(settings, {
      log: (level, message, fields = {}) => this.log.push({ level, message, fields }),
      chance: { now: () => new Date(Date.now() + (given.aheadMs ?? 0)), random: () => 0.5 },
      waits: { ...shortWaits, ...given.waits },
      lookup: given.lookup ?? (async () => await Promise.reject(new Error('no names in this test'))),
      engineEntry: scriptedEntry,
    })
    atEndOfFile(async () => await this.agent.stop('now'))
  }

  logged(message: string): Logged[] {
    return this.log.filter((line) => line.message === message)
  }

  async applies(version: number): Promise<void> {
    await until(`version ${version} is applied`, () =>
      this.logged('version applied').some(({ fields }) => fields['version'] === version),
    )
  }

  async get(path: string): Promise<{ status: number; text: string }> {
    const response = await fetch(`http://127.0.0.1:${this.agent.httpPort}${path}`)
    return { status: response.status, text: await response.text() }
  }
}
