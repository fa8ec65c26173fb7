/** Duration of soak tests: a minute in CI, short elsewhere, or as given by the environment. */
export function soakSeconds(): number {
  const given = Number(process.env['FLOTILLA_SOAK_SECONDS'] ?? '')
  if (given > 0) return given
  return process.env['CI'] === 'true' ? 60 : 10
}
