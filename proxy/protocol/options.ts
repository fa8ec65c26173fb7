import { SqlError } from '../../shared/errors.ts'

/**
 * The startup parameter `options`: command-line arguments for the backend, separated by blanks; a backslash quotes the
 * next character (manual, "Message Formats", StartupMessage). Only run-time parameters can be set: `-c name=value` and
 * `--name=value`. Throws SqlError for anything else.
 */
export function parseOptions(options: string): [name: string, value: string][] {
  const settings: [string, string][] = []
  const words = split(options)
  for (let index = 0; index < words.length; index++) {
    const word = words[index] as string
    let setting: string | undefined
    if (word === '-c') setting = words[++index]
    else if (word.startsWith('-c')) setting = word.slice(2)
    else if (word.startsWith('--')) setting = word.slice(2)
    else throw new SqlError('syntax_error', `unsupported command-line argument in startup options: ${word}`)
    const equals = setting?.indexOf('=') ?? -1
    if (setting === undefined || equals < 1) {
      throw new SqlError('syntax_error', `${word} ${setting ?? ''} in startup options requires a value`)
    }
    // As in PostgreSQL, "-" in a name is read as "_".
    settings.push([setting.slice(0, equals).replaceAll('-', '_'), setting.slice(equals + 1)])
  }
  return settings
}

/** C's isspace, not Unicode's: a no-break space is part of a word. */
const blanks = ' \t\n\v\f\r'

function split(options: string): string[] {
  const words: string[] = []
  let word: string | null = null
  for (let at = 0; at < options.length; at++) {
    const character = options[at] as string
    // A backslash at the end quotes nothing and is dropped.
    if (character === '\\') word = (word ?? '') + (options[++at] ?? '')
    else if (blanks.includes(character)) {
      if (word !== null) words.push(word)
      word = null
    } else word = (word ?? '') + character
  }
  if (word !== null) words.push(word)
  return words
}
