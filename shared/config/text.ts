import { parse, TomlError } from 'smol-toml'
import { ConfigSyntaxError } from './problems.ts'

/** Far deeper than any valid document; deeper input is rejected while parsing. */
const depthMax = 32

/** TOML → a tree of plain values. Throws a ConfigSyntaxError, which contains the position but never the text. */
export function parseToml(text: string): unknown {
  try {
    return parse(text, { maxDepth: depthMax })
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    // The rest of the message quotes the surrounding lines, which may contain a password.
    const reason = error.message.split('\n', 1)[0]!.replace('Invalid TOML document: ', '')
    throw new ConfigSyntaxError(reason, error.line, error.column)
  }
}
