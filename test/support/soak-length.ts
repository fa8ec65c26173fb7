/** How long soak tests last: a minute in CI, a glance elsewhere, or as long as whoever runs them says. */
export function soakSeconds(): number {
  const given = Number(process.env['FLOTILLA_SOAK_SECONDS'] ?? '')
  if (given > 0) return given
  return process.env['CI'] === 'true' ? 60 : 10
}
