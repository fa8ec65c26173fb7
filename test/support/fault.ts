/** The answer to a RELOAD on which an engine under test fails. */
export const fault = 'a fault set off by a test'
