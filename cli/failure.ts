/** An error to report in one line, exit code 1. The message says what to do. */
export class Failure extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'Failure'
  }
}

/** A usage error: exit code 2. */
export class WrongUsage extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'WrongUsage'
  }
}
