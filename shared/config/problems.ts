/** An error in a configuration: its path, and what to do. Never contains the value of a secret. */
export interface Problem {
  /** For example `pools.app.users.web.pool_size`; empty for the whole document. */
  readonly path: string
  /** A sentence with the remedy. */
  readonly message: string
}

/** Further problems are only counted. */
const problemsMax = 100

/** The text is not valid TOML or JSON. `line` and `column` count from 1. The message never quotes the text. */
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

/** The text is well formed but its content is invalid. Contains all problems found. */
export class ConfigError extends Error {
  readonly problems: readonly Problem[]
  constructor(problems: readonly Problem[]) {
    super(problems.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** Collects problems, so that an operator sees all of them at once. */
export class Problems {
  readonly #found: Problem[] = []
  #more = 0

  add(path: string, message: string): void {
    if (this.#found.length < problemsMax) this.#found.push({ path, message })
    else this.#more += 1
  }

  /** Whether there is a problem at or below `path`. */
  anyUnder(path: string): boolean {
    return this.#found.some((problem) => problem.path === path || problem.path.startsWith(`${path}.`))
  }

  /** Throws a ConfigError if there is any problem. */
  throwIfAny(): void {
    if (this.#found.length === 0) return
    const more = this.#more === 0 ? [] : [{ path: '', message: `and ${this.#more} more problems` }]
    throw new ConfigError([...this.#found, ...more])
  }
}

const bareKey = /^[A-Za-z0-9_-]+$/

/** Appends a segment to a path, quoted as in TOML where necessary: `pools."my.app"`. */
export function join(path: string, key: string): string {
  const segment = bareKey.test(key) ? key : JSON.stringify(key)
  return path === '' ? segment : `${path}.${segment}`
}
