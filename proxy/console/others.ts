/** Queries to the other workers from a command on one worker's console. */
import type { Exchange } from '../engine/wire/conversation.ts'
import type { QueryAnswer, WorkerQuery } from '../operation.ts'
import type { Caller } from './caller.ts'

/** Their answers, when all have answered; null for one that did not in time. Empty without other workers. */
export function* queryOthers(caller: Caller, query: WorkerQuery): Exchange<readonly QueryAnswer[]> {
  let answers: readonly QueryAnswer[] | null = null
  caller.engine.queryWorkers(query, (given) => {
    answers = given
    caller.wake()
  })
  yield* caller.until(() => answers !== null)
  return answers as unknown as readonly QueryAnswer[] // set by the callback, which the compiler cannot see
}
