/** What a command on one worker's console wants of the other workers. */
import type { Exchange } from '../engine/wire/conversation.ts'
import type { Answer, Question } from '../port.ts'
import type { Caller } from './caller.ts'

/** Their answers, as soon as all have answered; null for one that did not in time. Where there are no others, none. */
export function* askOthers(caller: Caller, question: Question): Exchange<readonly Answer[]> {
  let answers: readonly Answer[] | null = null
  caller.engine.ask(question, (given) => {
    answers = given
    caller.wake()
  })
  yield* caller.until(() => answers !== null)
  return answers as unknown as readonly Answer[] // set by the answer, which the compiler cannot see
}
