const withinMs = 10_000
const lookEveryMs = 5

/** Looks until `find` gives something. Rejects with `what` after ten seconds. */
export async function until<Found>(what: string, find: () => Found | undefined | false | null): Promise<Found> {
  const deadlineMs = performance.now() + withinMs
  for (;;) {
    const found = find()
    if (found !== undefined && found !== false && found !== null) return found
    if (performance.now() > deadlineMs) throw new Error(`waited in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, lookEveryMs))
  }
}
