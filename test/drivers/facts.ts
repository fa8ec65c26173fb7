/** How the programs in this folder tell what they found: one JSON object a line. */
export function fact(name: string, value: unknown): void {
  process.stdout.write(`${JSON.stringify({ fact: name, value })}\n`)
}

export const clientCount = 8
/** Each asks twice a round: over the threshold from which any driver prepares. */
const roundCount = 4

export interface Asker {
  /** One transaction with a prepared statement: n + 1, and the server's process id. */
  next(n: number): Promise<{ value: number; pid: number }>
}

/**
 * Every client asks while another transaction holds a server, and again when that server has just become free. So on
 * two servers each of them moves with every question, and takes its prepared statement along.
 */
export async function move(
  clients: readonly Asker[],
  holder: { begin(): Promise<unknown>; commit(): Promise<unknown> },
): Promise<void> {
  const values: number[] = []
  const pids = clients.map(() => new Set<number>())
  const ask = async (index: number): Promise<void> => {
    const { value, pid } = await (clients[index] as Asker).next(values.length)
    values.push(value)
    pids[index]?.add(pid)
  }
  for (let round = 0; round < roundCount; round++) {
    for (const index of clients.keys()) {
      await holder.begin()
      await ask(index)
      await holder.commit()
      await ask(index)
    }
  }
  fact('prepared', values)
  fact(
    'servers',
    pids.map((seen) => seen.size),
  )
}
