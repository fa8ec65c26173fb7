/** The answer to a RELOAD that makes an engine under test fail. */
export const fault = 'a fault set off by a test'
