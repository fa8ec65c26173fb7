/** Reads a configuration file; control parses and checks it. */
import { readFile } from 'node:fs/promises'
import type { Surroundings } from './command.ts'
import { Failure } from './failure.ts'

export interface WrittenDocument {
  readonly text: string
  readonly mediaType: 'application/toml' | 'application/json'
}

/** @param file a path, or "-" for standard input. */
export async function readDocument(file: string, { readInput }: Surroundings): Promise<WrittenDocument> {
  const text = file === '-' ? await readInput() : await readText(file)
  // No TOML document starts with a brace, and every JSON document that control accepts does.
  return { text, mediaType: text.trimStart().startsWith('{') ? 'application/json' : 'application/toml' }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    throw new Failure(`could not read ${file}: ${(cause as Error).message}`, { cause })
  }
}
