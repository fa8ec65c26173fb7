import { SqlError } from '../../shared/errors.ts'
import type { Condition } from '../../shared/errors.ts'

/** A rejected command, with a hint. */
export class CommandError extends SqlError {
  readonly hint: string
  constructor(condition: Condition, message: string, hint: string) {
    super(condition, message)
    this.name = 'CommandError'
    this.hint = hint
  }
}
