/** Answers to queries of other workers' consoles. */
import type { OperatedEngine } from './operated-engine.ts'
import type { QueryAnswer, WorkerQuery } from '../operation.ts'
import { hasEnded, killClient, operate } from './operations.ts'
import { whenFlushed } from '../engine/suspension.ts'
import { partOf, tableOf } from './commands.ts'

/** Calls `answer` once, now or after the awaited event. */
export function answerTo(engine: OperatedEngine, query: WorkerQuery, answer: (answer: QueryAnswer) => void): void {
  switch (query.kind) {
    case 'rows': {
      const table = tableOf(query.command)
      answer(table === undefined ? [] : partOf(table, engine))
      return
    }
    case 'operate':
      answer(operate(engine, query.operation, query.database))
      return
    case 'kill_client':
      answer(killClient(engine, query.client))
      return
    case 'set':
      if (query.value === null) engine.overrides.drop()
      answer(query.value === null || engine.overrides.set(query.key, query.value) === null)
      return
    case 'wait': {
      if (query.for === 'unsent_bytes') {
        whenFlushed(engine, answer)
        return
      }
      const condition = hasEnded(engine, query.for, query.database)
      if (condition()) answer(true)
      else engine.when(condition, () => answer(true))
      return
    }
    default:
      query satisfies never
  }
}
