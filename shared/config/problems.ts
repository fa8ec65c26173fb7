/** Something an operator must mend in a configuration: where, and what to do. Never holds a secret's value. */
export interface Problem {
  /** For example `pools.app.users.web.pool_size`; empty for the document as a whole. */
  readonly path: string
  /** A sentence with the remedy. */
  readonly message: string
}

/** More problems than this help nobody; the rest is only counted. */
const problemsMax = 100

/** The text is not TOML or JSON at all. `line` and `column` count from 1. The text itself is never quoted. */
export class ConfigSyntaxError extends Error {
  readonly line: number
  readonly column: number
  constructor(reason: string, line: number, column: number) {
    super(`line ${line}, column ${column}: ${reason}`)
    this.name = 'ConfigSyntaxError'
    this.line = line
    this.column = column
  }
}

/** The text is well formed, but its content cannot be used. Holds every problem that was found. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[]
  constructor(problems: readonly Problem[]) {
    super(problems.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** Gathers problems, so that an operator sees them all in one go. */
export class Problems {
  readonly #found: Problem[] = []
  #more = 0

  add(path: string, message: string): void {
    if (this.#found.length < problemsMax) this.#found.push({ path, message })
    else this.#more += 1
  }

  /** Whether something at `path` or below it was found. */
  anyUnder(path: string): boolean {
    return this.#found.some((problem) => problem.path === path || problem.path.startsWith(`${path}.`))
  }

  /** Throws a ConfigError when something was found. */
  throwIfAny(): void {
    if (this.#found.length === 0) return
    const more = this.#more === 0 ? [] : [{ path: '', message: `and ${this.#more} more problems` }]
    throw new ConfigError([...this.#found, ...more])
  }
}

const bareKey = /^[A-Za-z0-9_-]+$/

/** Appends a segment to a path, quoted as in TOML where it has to be: `pools."my.app"`. */
export function join(path: string, key: string): string {
  const segment = bareKey.test(key) ? key : JSON.stringify(key)
  return path === '' ? segment : `${path}.${segment}`
}
