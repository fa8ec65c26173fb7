/** `"v3"`, or a list of these (RFC 9110, 13.1.1) → the numbers; undefined for anything else. */
export function parseIfMatch(header: string): number[] | undefined {
  const versions: number[] = []
  for (const part of header.split(',')) {
    const digits = /^\s*"v(0|[1-9]\d{0,14})"\s*$/.exec(part)?.[1]
    if (digits === undefined) return undefined
    versions.push(Number(digits))
  }
  return versions
}

/** `Prefer: wait=25` (RFC 7240, 4.3) → 25; undefined without such a preference. */
export function parseWaitS(prefer: string | undefined): number | undefined {
  const digits = /(?:^|[,;])\s*wait\s*=\s*"?(\d{1,6})"?\s*(?:$|[,;])/i.exec(prefer ?? '')?.[1]
  return digits === undefined ? undefined : Number(digits)
}
