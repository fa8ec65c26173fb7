import type { EngineDisconnect } from '../../shared/disconnect.ts'
import type { EngineConsole, OperatorLogin } from '../engine/console.ts'
import type { Engine } from '../engine/engine.ts'
import { suspend, unsuspend } from '../engine/suspension.ts'
import type { OperatedState, QueryAnswer, WorkerQuery } from '../operation.ts'
import type { ToConsole } from '../port.ts'
import type { EngineSnapshot } from '../snapshot.ts'
import type { ConsoleUserSpec, Desired, FleetSpec } from '../spec.ts'
import { answerTo } from './answers.ts'
import { consoleTablesOf, poolsWithSeries, sourcesWithSeries } from './console-tables.ts'
import { Disconnects } from './disconnects.ts'
import type { OperatedEngine } from './operated-engine.ts'
import { carryOut, operateForControl } from './operations.ts'
import { Overrides } from './overrides.ts'
import { ConsoleSession } from './session.ts'
import { Statistics } from './statistics.ts'

/** Capacity of SHOW DISCONNECTS. */
const disconnectsMax = 1000

/** The console of an engine: its sessions, its own state for tables, and operators' state. */
export class Console implements EngineConsole, OperatedEngine {
  readonly engine: Engine
  readonly disconnects = new Disconnects(disconnectsMax)
  readonly statistics: Statistics
  readonly overrides = new Overrides(this)
  generalValues: OperatedEngine['generalValues'] = {}
  desired: Desired | null = null
  #users: readonly ConsoleUserSpec[] = []
  readonly #reloads = new Map<number, (error: string | null) => void>()
  readonly #queries = new Map<number, (answers: readonly QueryAnswer[]) => void>()
  /** Overrides to replay onto the first version this thread receives. */
  #overridesBefore: OperatedState['overrides'] = []
  /** Changes during a restore come from the agent. */
  #restoring = false

  constructor(engine: Engine) {
    this.engine = engine
    this.statistics = new Statistics(engine.context.io.nowMs())
  }

  get context(): Engine['context'] {
    return this.engine.context
  }

  get pools(): Engine['pools'] {
    return this.engine.pools
  }

  get logins(): Engine['logins'] {
    return this.engine.logins
  }

  get port(): number {
    return this.engine.port
  }

  stateChanged(): void {
    this.engine.stateChanged()
  }

  when(condition: () => boolean, done: () => void): void {
    this.engine.when(condition, done)
  }

  // Events of the engine

  find(user: string): ConsoleUserSpec | undefined {
    return this.#users.find((candidate) => candidate.user === user)
  }

  open({ socket, id, user, parameters }: OperatorLogin): ConsoleSession {
    return new ConsoleSession(this, socket, id, user, this.find(user)?.right ?? 'stats', parameters)
  }

  applied(spec: FleetSpec, isFirst: boolean): void {
    this.generalValues = spec.generalValues
    this.#users = spec.consoleUsers
    this.overrides.clear()
    if (isFirst) this.overrides.restore(this.#overridesBefore)
  }

  disconnected(disconnect: EngineDisconnect): void {
    this.disconnects.add(this.context.io.nowMs(), disconnect)
  }

  observe(nowMs: number): void {
    this.statistics.observe(this.pools.all(), nowMs)
  }

  operated(): void {
    if (this.#restoring) return
    const { pools, context, overrides } = this
    const state = { ...pools.operated, suspended: context.suspended, overrides: overrides.values }
    context.post({ type: 'state', state })
  }

  receive(message: ToConsole): void {
    const { post } = this.context
    switch (message.type) {
      case 'desired':
        this.desired = message.desired
        return
      case 'snapshot':
        post({ type: 'snapshot', id: message.id, snapshot: this.snapshot(message.tables) })
        return
      case 'reloaded':
        this.#reloads.get(message.id)?.(message.error)
        this.#reloads.delete(message.id)
        return
      case 'query':
        answerTo(this, message.query, (answer) => post({ type: 'answer', id: message.id, answer }))
        return
      case 'answers':
        this.#queries.get(message.id)?.(message.answers)
        this.#queries.delete(message.id)
        return
      case 'restore':
        this.#restore(message.state)
        return
      case 'carry_out':
        carryOut(this, message.changes)
        post({ type: 'answer', id: message.id, answer: true })
        return
      case 'operate':
        post({ type: 'operated', id: message.id, outcome: operateForControl(this, message) })
        return
      default:
        message satisfies never
        throw new Error('unknown message from the agent')
    }
  }

  /** Not reported back to the agent, whose state may be newer by then. */
  #restore(state: OperatedState): void {
    this.#restoring = true
    this.pools.restore(state)
    if (state.suspended) suspend(this)
    else unsuspend(this)
    this.#overridesBefore = state.overrides
    if (this.pools.running !== null) this.overrides.restore(state.overrides)
    this.#restoring = false
    this.stateChanged()
  }

  /** With `tables`, for metrics: only of pools with series of their own. */
  snapshot(tables?: true): EngineSnapshot {
    return {
      ...(tables === true
        ? this.engine.snapshot(poolsWithSeries(this), sourcesWithSeries(this))
        : this.engine.snapshot()),
      overrides: this.overrides.texts(),
      ...(tables === true ? { tables: consoleTablesOf(this) } : {}),
    }
  }

  // For commands

  reload(answer: (error: string | null) => void): void {
    this.pools.authQueries.clear()
    const id = this.engine.newId()
    this.#reloads.set(id, answer)
    this.context.post({ type: 'reload', id })
  }

  queryWorkers(query: WorkerQuery, answer: (answers: readonly QueryAnswer[]) => void): void {
    if (this.context.workers === null) {
      answer([])
      return
    }
    const id = this.engine.newId()
    this.#queries.set(id, answer)
    this.context.post({ type: 'query', id, query })
  }
}
