/** What workers' consoles ask of this one. */
import type { Engine } from '../engine/engine.ts'
import type { Answer, Question } from '../port.ts'
import { isPaused, killClient, obey, serversLeaving, serversLeft, whenFlushed } from './operations.ts'
import { partOf, tableOf } from './commands.ts'

/** Calls `answer` once, now or when what is waited for has come. */
export function answerTo(engine: Engine, question: Question, answer: (answer: Answer) => void): void {
  switch (question.ask) {
    case 'rows': {
      const table = tableOf(question.command)
      answer(table === undefined ? [] : partOf(table, engine))
      return
    }
    case 'do':
      answer(obey(engine, question.deed, question.database))
      return
    case 'kill client':
      answer(killClient(engine, question.client))
      return
    case 'set':
      if (question.value === null) engine.overrides.drop()
      answer(question.value === null || engine.overrides.set(question.key, question.value) === null)
      return
    case 'wait': {
      const { database } = question
      if (question.for === 'flushed') {
        whenFlushed(engine, answer)
        return
      }
      const condition =
        question.for === 'released'
          ? () => !isPaused(engine, database) || serversLeft(engine, database) === 0
          : () => serversLeaving(engine, database) === 0
      if (condition()) answer(true)
      else engine.when(condition, () => answer(true))
      return
    }
    default:
      question satisfies never
  }
}
