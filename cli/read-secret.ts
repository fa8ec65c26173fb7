import type { Surroundings } from './command.ts'

/** What the operator types, unseen, or what standard input holds, without the newline that `echo` adds. */
export async function readSecret(
  prompt: string,
  { readHidden, readInput }: Pick<Surroundings, 'readHidden' | 'readInput'>,
): Promise<string> {
  return readHidden === undefined ? (await readInput()).replace(/\r?\n$/, '') : await readHidden(prompt)
}
