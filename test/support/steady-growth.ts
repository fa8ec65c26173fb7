/** Whether memory grows with what is done, and not for once: from samples taken at equal distances. */

/** Of the samples, for warming up. */
const warmingUp = 0.4
const windows = 9

/** Of a run, between the middles of the first and the last window: what is done meanwhile makes the growth. */
export const judgedShare = ((1 - warmingUp) * (windows - 1)) / windows

/**
 * Growth from the first window to the last, without the largest step between two of them: V8 takes some megabytes once
 * in a while, a leak takes them in each window. Of each window the least counts, because what is given back is no growth.
 */
export function steadyGrowth(samples: readonly number[]): number {
  const begin = samples.length * warmingUp
  const length = (samples.length - begin) / windows
  const least = Array.from({ length: windows }, (_, n) =>
    Math.min(...samples.slice(Math.floor(begin + n * length), Math.floor(begin + (n + 1) * length))),
  )
  const steps = least.slice(1).map((value, n) => value - (least[n] as number))
  return steps.reduce((sum, step) => sum + step, 0) - Math.max(0, ...steps)
}
