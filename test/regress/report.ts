import { markdownTable } from '../../bench/table.ts'
import { known } from './known.ts'
import type { KnownCause } from './known.ts'
import type { Mode, Suite } from './options.ts'
import type { FileResult, SuiteResult } from './suite.ts'

/** `as direct`: it fails with the same diff without a proxy. `fails`: it does not, and is not known to. */
type Verdict = 'ok' | 'as direct' | 'known' | 'fails' | 'known, but ok'

/** Prints a table with a line per file. Returns the number of files that fail and are not known to. */
export function report(suite: Suite, results: ReadonlyMap<Mode, SuiteResult>): number {
  const modes = Array.from(results.keys())
  const verdicts = new Map(modes.map((mode) => [mode, verdictsOf(suite, mode, results)]))
  const files = new Set(modes.flatMap((mode) => Array.from(results.get(mode)?.keys() ?? [])))
  const rows = Array.from(files, (file) => [file, ...modes.map((mode) => verdicts.get(mode)?.get(file) ?? '')])
  console.log(`\n${markdownTable([suite, ...modes], rows)}\n`)
  for (const [mode, byFile] of verdicts) printCounts(suite, mode, byFile)
  return modes
    .filter((mode) => causesOf(suite, mode) !== undefined)
    .reduce((sum, mode) => sum + filesWith('fails', verdicts.get(mode)).length, 0)
}

function verdictsOf(suite: Suite, mode: Mode, results: ReadonlyMap<Mode, SuiteResult>): Map<string, Verdict> {
  const direct = mode === 'direct' ? undefined : results.get('direct')
  const knownFiles = (of: Mode): Set<string> => new Set(causesOf(suite, of)?.flatMap(({ files }) => files))
  const [own, withoutProxy] = [knownFiles(mode), knownFiles('direct')]
  const verdict = (file: string, result: FileResult): Verdict => {
    if (result.passed) return own.has(file) ? 'known, but ok' : 'ok'
    if (own.has(file)) return 'known'
    // Without a run to compare with, the list says which fail in any mode.
    const asDirect = direct === undefined ? withoutProxy.has(file) : sameDiff(result, direct.get(file))
    return asDirect ? 'as direct' : 'fails'
  }
  const byFile = Array.from(results.get(mode) ?? [])
  return new Map(byFile.map(([file, result]) => [file, verdict(file, result)]))
}

function causesOf(suite: Suite, mode: Mode): readonly KnownCause[] | undefined {
  return mode === 'pgbouncer' ? undefined : known[suite][mode]
}

function sameDiff(one: FileResult, other: FileResult | undefined): boolean {
  return other !== undefined && !other.passed && withoutNames(one.diff) === withoutNames(other.diff)
}

/** A diff without the lines that name folders and times. */
function withoutNames(diff: string): string {
  return diff.replace(/^(?:diff|---|\+\+\+) .*\n/gm, '')
}

function printCounts(suite: Suite, mode: Mode, byFile: ReadonlyMap<string, Verdict>): void {
  const passed = Array.from(byFile.values()).filter((verdict) => verdict === 'ok' || verdict === 'known, but ok').length
  console.log(`${suite}, ${mode}: ${passed} of ${byFile.size} pass`)
  if (causesOf(suite, mode) === undefined) return
  const failing = filesWith('fails', byFile)
  const passing = filesWith('known, but ok', byFile)
  if (failing.length > 0) console.log(`  fail, and are not known to: ${failing.join(' ')}`)
  if (passing.length > 0) console.log(`  pass, and are to be removed from test/regress/known.ts: ${passing.join(' ')}`)
}

function filesWith(verdict: Verdict, byFile: ReadonlyMap<string, Verdict> = new Map()): string[] {
  return Array.from(byFile).flatMap(([file, one]) => (one === verdict ? [file] : []))
}
