/** Runs tasks as they come, at most `runningMax` at a time; the others wait in line. */
export function limiter(runningMax: number): <Value>(task: () => Promise<Value>) => Promise<Value> {
  let running = 0
  const waiting: (() => void)[] = []
  return async (task) => {
    if (running < runningMax) running += 1
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await task()
    } finally {
      // A task that ends hands its place to the first in line.
      const next = waiting.shift()
      if (next === undefined) running -= 1
      else next()
    }
  }
}
