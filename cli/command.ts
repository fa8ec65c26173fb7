/** The shape of a command and its environment. */
import type { OptionSpecs, OptionValues } from './arguments.ts'
import { readArguments } from './arguments.ts'

/** The outside world, provided by the entry file. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Writes a line of output: a table, a document, JSON. */
  readonly print: (line: string) => void
  /** Writes a line about progress, or an error. */
  readonly say: (line: string) => void
  readonly readInput: () => Promise<string>
  /** Prompts for a line without echo; undefined without a terminal. */
  readonly readHidden: ((prompt: string) => Promise<string>) | undefined
  /** Aborted when the operator stops the command (Ctrl-C, SIGTERM). */
  readonly stop: AbortSignal
  /** Aborted by a second Ctrl-C: stop without waiting. */
  readonly stopNow: AbortSignal
}

/** 0 success, 1 rejected or failed on a proxy, 3 a proxy was not reached. (2, a usage error, is thrown.) */
export type ExitCode = 0 | 1 | 3

/** Operands and options of a command; its usage text is derived from them. */
export interface Shape<Specs extends OptionSpecs = OptionSpecs> {
  /** Names of the operands in order, all required: ["N", "M"]. */
  readonly operands: readonly string[]
  readonly options: Specs
}

export interface Command extends Shape {
  run(args: readonly string[], surroundings: Surroundings): Promise<ExitCode>
}

/** A command whose `act` receives checked and typed operands and options. */
export function command<const Specs extends OptionSpecs>(
  shape: Shape<Specs>,
  act: (given: { operands: string[]; options: OptionValues<Specs> }, surroundings: Surroundings) => Promise<ExitCode>,
): Command {
  return {
    ...shape,
    run: async (args, surroundings) => act(readArguments(args, shape.operands, shape.options), surroundings),
  }
}
