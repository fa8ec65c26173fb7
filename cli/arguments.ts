/** A table language over node:util's parseArgs: each command declares its operands and options. */
import { parseArgs } from 'node:util'
import { WrongUsage } from './failure.ts'

export interface OptionSpec {
  readonly type: 'string' | 'boolean'
  readonly short?: string
  /** Placeholder for the value in the usage: "--file FILE". */
  readonly value?: string
  readonly help: string
}

export type OptionSpecs = Readonly<Record<string, OptionSpec>>

/** Parsed options: a missing string is undefined, a missing flag is false. */
export type OptionValues<Specs extends OptionSpecs> = {
  readonly [Name in keyof Specs]: Specs[Name]['type'] extends 'boolean' ? boolean : string | undefined
}

/**
 * @param operands names of the operands in order, for example ["N", "M"]; all are required.
 * @throws WrongUsage
 */
export function readArguments<Specs extends OptionSpecs>(
  args: readonly string[],
  operands: readonly string[],
  specs: Specs,
): { operands: string[]; options: OptionValues<Specs> } {
  let parsed
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: Object.fromEntries(
        Object.entries(specs).map(([name, { type, short }]) => [
          name,
          short === undefined ? { type } : { type, short },
        ]),
      ),
    })
  } catch (error) {
    throw new WrongUsage((error as Error).message)
  }
  const missing = operands.slice(parsed.positionals.length)
  if (missing.length > 0) throw new WrongUsage(`missing operand: ${missing.join(' and ')}`)
  const extra = parsed.positionals.slice(operands.length)
  // Not quoted: it may be a secret given by mistake.
  if (extra.length > 0) {
    throw new WrongUsage(`expected ${operands.join(' and ') || 'options only'}, got ${extra.length} more`)
  }
  const options = Object.fromEntries(
    Object.entries(specs).map(([name, { type }]) => [
      name,
      parsed.values[name] ?? (type === 'boolean' ? false : undefined),
    ]),
  )
  return { operands: parsed.positionals, options: options as OptionValues<Specs> }
}

/** @throws WrongUsage if `text` is not an integer within the bounds. */
export function wholeNumber(name: string, text: string, min: number, max: number): number {
  const number = Number(text)
  if (/^\d{1,15}$/.test(text) && number >= min && number <= max) return number
  throw new WrongUsage(`${name} must be an integer from ${min} to ${max}, not "${text}"`)
}
