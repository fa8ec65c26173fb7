/** A table with columns as wide as their widest cell, separated by two spaces, without trailing space. */
export function table(header: readonly string[], rows: readonly (readonly (string | number | null)[])[]): string {
  const lines = [header, ...rows.map((row) => row.map((cell) => (cell === null ? '-' : String(cell))))]
  const widths = header.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)))
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** "2026-11-23T19:00:00.000Z" → "2026-11-23 19:00:00Z"; null stays null. */
export function shortTime(time: string | null): string | null {
  return time === null ? null : time.replace('T', ' ').replace(/\.\d+/, '')
}
