/** Whether this run is `npm run coverage`: V8 counts in compiled code, which is slower then and allocates. */
export function isCovered(): boolean {
  return process.env['NODE_V8_COVERAGE'] !== undefined
}
