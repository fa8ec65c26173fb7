import { parse, TomlError } from 'smol-toml'
import { ConfigSyntaxError } from './problems.ts'

/** Nesting that no valid document comes near; deeper text is refused before it costs anything. */
const depthMax = 32

/** TOML → a tree of plain values. Throws a ConfigSyntaxError, which names the line but never quotes it. */
export function parseToml(text: string): unknown {
  try {
    return parse(text, { maxDepth: depthMax })
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // The message goes on with the lines around the fault, and those may hold a password.
    const reason = error.message.split('\n', 1)[0]!.replace('Invalid TOML document: ', '')
    throw new ConfigSyntaxError(reason, error.line, error.column)
  }
}
