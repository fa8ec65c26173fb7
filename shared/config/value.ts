import { formatDuration, parseDuration } from './duration.ts'
import type { KeySpec } from './keys.ts'

export type Checked = { readonly value: string | number } | { readonly fault: string }

/** What a document without the key means. */
export function defaultOf(spec: KeySpec): string | number {
  return canonical(spec, spec.default)
}

/**
 * What a body without the key means, for good: the default of the release that added the key. Where the default has changed
 * since, bodies name the value, so that older proxies run what was meant, and hashes change with it.
 */
export function absentMeans(spec: KeySpec): string | number {
  return canonical(spec, spec.firstDefault ?? spec.default)
}

/** Defaults in the table may have another spelling, such as "120s". */
function canonical(spec: KeySpec, value: string | number): string | number {
  return spec.type === 'duration' ? formatDuration(parseDuration(String(value))!) : value
}

/** Checks a value against its line in the key table. Durations are returned in their canonical spelling. */
export function checkValue(spec: KeySpec, given: unknown): Checked {
  switch (spec.type) {
    case 'integer':
      return checkInteger(spec, given)
    case 'duration':
      return checkDuration(spec, given)
    case 'choice':
      if (typeof given === 'string' && spec.choices.includes(given)) return { value: given }
      return { fault: `must be one of ${spec.choices.map(quoted).join(', ')}; got ${shown(given)}` }
    case 'string':
      return checkString(spec, given)
    default:
      return spec satisfies never
  }
}

function checkInteger(spec: KeySpec & { type: 'integer' }, given: unknown): Checked {
  if (typeof given !== 'number' || !Number.isSafeInteger(given)) {
    return { fault: `must be an integer; got ${shown(given)}` }
  }
  if (given < spec.min || given > spec.max) {
    return { fault: `must be between ${spec.min} and ${spec.max}; got ${given}` }
  }
  // -0 is spelled 0.
  return { value: given === 0 ? 0 : given }
}

function checkDuration(spec: KeySpec & { type: 'duration' }, given: unknown): Checked {
  const ms = typeof given === 'string' ? parseDuration(given) : undefined
  if (ms === undefined) {
    return {
      fault: `must be a duration with a unit (ms, s, m, h or d), such as ${quoted(spec.default)}; got ${shown(given)}`,
    }
  }
  if (ms < parseDuration(spec.min)! || ms > parseDuration(spec.max)!) {
    return { fault: `must be between ${quoted(spec.min)} and ${quoted(spec.max)}; got ${shown(given)}` }
  }
  return { value: formatDuration(ms) }
}

function checkString(spec: KeySpec & { type: 'string' }, given: unknown): Checked {
  if (typeof given !== 'string') return { fault: `must be a string; got ${shown(given)}` }
  if (given === '' && spec.default !== '' && spec.mayBeEmpty !== true) return { fault: 'must not be empty' }
  if (given.length > spec.maxLength) return { fault: `must be at most ${spec.maxLength} characters long` }
  if (given.includes('\0') || !given.isWellFormed()) return { fault: 'must not contain NUL or invalid Unicode' }
  return { value: given }
}

const shownMax = 40

/** A value as written, shortened. Only for keys that never contain a secret. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return 'nothing'
  if (Array.isArray(value)) return 'a list'
  if (value instanceof Date) return 'a date'
  if (typeof value === 'object') return 'a table'
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  const text = JSON.stringify(value)
  return text.length > shownMax ? `${text.slice(0, shownMax)}…` : text
}

function quoted(text: string): string {
  return `"${text}"`
}
