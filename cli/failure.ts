/** What the operator did cannot be done: one line for people, exit code 1. The message names the remedy. */
export class Failure extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'Failure'
  }
}

/** The command line itself is wrong: exit code 2. */
export class WrongUsage extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'WrongUsage'
  }
}
