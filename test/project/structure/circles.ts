/** Import graph: which files reach which, and in which circles. */

export type Graph = ReadonlyMap<string, readonly string[]>

/**
 * Strongly connected components of more than one node (Tarjan 1972): from each of a circle's files every other one can
 * be reached. Largest first, the nodes of each in alphabetical order.
 */
export function circlesOf(graph: Graph): string[][] {
  const found: string[][] = []
  const order = new Map<string, number>()
  const lowest = new Map<string, number>()
  const path: string[] = []
  const onPath = new Set<string>()

  const enter = (node: string): void => {
    order.set(node, order.size)
    lowest.set(node, order.get(node) as number)
    path.push(node)
    onPath.add(node)
    for (const next of graph.get(node) ?? []) {
      if (!order.has(next)) enter(next)
      else if (!onPath.has(next)) continue
      lowest.set(node, Math.min(lowest.get(node) as number, lowest.get(next) as number))
    }
    if (lowest.get(node) === order.get(node)) leave(node)
  }
  const leave = (root: string): void => {
    const component = path.splice(path.indexOf(root))
    for (const node of component) onPath.delete(node)
    if (component.length > 1) found.push(component.sort())
  }

  for (const node of graph.keys()) if (!order.has(node)) enter(node)
  return found.sort((a, b) => b.length - a.length)
}
