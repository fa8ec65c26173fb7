/** The virtual environment that `.ci/run` makes of requirements.txt: psycopg with a newer libpq than Debian's. */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

const environment = join(import.meta.dirname, '../../.python')

export const newestPython = join(environment, 'bin/python')

/** The libpq within; undefined where it is not installed. */
export const newestLibpq = libpqWithin()

function libpqWithin(): string | undefined {
  const lib = join(environment, 'lib')
  if (!existsSync(lib)) return undefined
  const found = readdirSync(lib, { recursive: true, encoding: 'utf8' }).find((path) => /\/libpq-[^/]*\.so/.test(path))
  return found === undefined ? undefined : join(lib, found)
}
