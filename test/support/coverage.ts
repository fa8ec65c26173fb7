/** Whether this is `npm run coverage`: V8 counts in compiled code, which makes it slower and allocate. */
export function isCovered(): boolean {
  return process.env['NODE_V8_COVERAGE'] !== undefined
}
