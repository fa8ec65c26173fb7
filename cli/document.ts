/** Reads a configuration file; control parses and checks it. */
import { readFile, writeFile } from 'node:fs/promises'
import { parseJson } from '../shared/config/json.ts'
import { parseToml } from '../shared/config/text.ts'
import type { Surroundings } from './command.ts'
import { Failure } from './failure.ts'

export interface WrittenDocument {
  readonly text: string
  readonly mediaType: 'application/toml' | 'application/json'
  /** The version that `flotilla show` wrote into it; null without one. */
  readonly origin: Origin | null
}

/** Where a document came from: what it replaces, unless another version was created since. */
export interface Origin {
  readonly fleet: string
  readonly version: number
}

const originPattern = /^# fleet (\S+), version v(\d+)$/m

/** The comment that `flotilla show` begins a document with. */
export function originLine({ fleet, version }: Origin): string {
  return `# fleet ${fleet}, version v${version}`
}

/** @param file a path, or "-" for standard input. */
export async function readDocument(file: string, { readInput }: Surroundings): Promise<WrittenDocument> {
  const text = file === '-' ? await readInput() : await readText(file)
  // No TOML document starts with a brace, and every JSON document that control accepts does.
  const mediaType = text.trimStart().startsWith('{') ? 'application/json' : 'application/toml'
  return { text, mediaType, origin: mediaType === 'application/toml' ? originOf(text) : null }
}

/** The tree of a document that control has accepted. */
export function treeOf({ text, mediaType }: WrittenDocument): unknown {
  return mediaType === 'application/json' ? parseJson(text) : parseToml(text)
}

/** The file is the content of this version now: its next change replaces this one. */
export async function noteOrigin(file: string, { text }: WrittenDocument, origin: Origin): Promise<void> {
  const now = text.replace(originPattern, () => originLine(origin))
  if (file === '-' || now === text) return
  try {
    await writeFile(file, now)
  } catch (cause) {
    throw new Failure(`v${origin.version} was created, but ${file} still names another: ${(cause as Error).message}`, {
      cause,
    })
  }
}

function originOf(text: string): Origin | null {
  const [, fleet, digits] = originPattern.exec(text) ?? []
  return fleet === undefined ? null : { fleet, version: Number(digits) }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch (cause) {
    throw new Failure(`could not read ${file}: ${(cause as Error).message}`, { cause })
  }
}
