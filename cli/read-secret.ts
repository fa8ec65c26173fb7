import type { Surroundings } from './command.ts'

/** The operator's hidden input, or standard input without the newline that `echo` adds. */
export async function readSecret(
  prompt: string,
  { readHidden, readInput }: Pick<Surroundings, 'readHidden' | 'readInput'>,
): Promise<string> {
  return readHidden === undefined ? (await readInput()).replace(/\r?\n$/, '') : await readHidden(prompt)
}
