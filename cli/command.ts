/** What a command is and what it is given. */
import type { OptionSpecs, OptionValues } from './arguments.ts'
import { readArguments } from './arguments.ts'

/** The world outside, handed in by the entry file. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Writes one line for whoever asked: a table, a document, JSON. */
  readonly print: (line: string) => void
  /** Writes one line about what goes on. */
  readonly say: (line: string) => void
  readonly readInput: () => Promise<string>
  /** Asks for a line that is not shown; undefined where nobody sits at a terminal. */
  readonly readHidden: ((prompt: string) => Promise<string>) | undefined
  /** Aborted when the operator wants to stop (Ctrl-C, SIGTERM). */
  readonly stop: AbortSignal
  /** Aborted when the operator says so a second time: nothing is waited for any more. */
  readonly stopNow: AbortSignal
}

/** 0 done, 1 refused or failed on some proxy. (2, wrong usage, is thrown.) */
export type ExitCode = 0 | 1

/** How a command is called; the usage text is made of it. */
export interface Shape<Specs extends OptionSpecs = OptionSpecs> {
  /** Names of the operands in order, all needed: ["N", "M"]. */
  readonly operands: readonly string[]
  readonly options: Specs
}

export interface Command extends Shape {
  run(args: readonly string[], surroundings: Surroundings): Promise<ExitCode>
}

/** A command whose `act` sees its operands and options checked and typed. */
export function command<const Specs extends OptionSpecs>(
  shape: Shape<Specs>,
  act: (given: { operands: string[]; options: OptionValues<Specs> }, surroundings: Surroundings) => Promise<ExitCode>,
): Command {
  return {
    ...shape,
    run: async (args, surroundings) => act(readArguments(args, shape.operands, shape.options), surroundings),
  }
}
