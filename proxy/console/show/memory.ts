import { byKey } from '../join.ts'
import { bigints, integers, texts } from '../table.ts'
import type { Table } from '../table.ts'

/** The heap of the engine's thread, and the process's memory outside of it; in bytes, so `size` is 1. */
export const memory: Table = {
  columns: [...texts('name'), ...integers('size'), ...bigints('used', 'free', 'memtotal')],
  join: (ofWorkers) =>
    byKey(
      1,
      [2, 3, 4],
    )(ofWorkers.map((rows, worker) => (worker === 0 ? rows : rows.filter(([name]) => name !== 'process')))),
  rows: () => {
    const { heapUsed, heapTotal, external, arrayBuffers, rss } = process.memoryUsage()
    return [
      ['heap', 1, heapUsed, heapTotal - heapUsed, heapTotal],
      ['external', 1, external, 0, external],
      ['array_buffers', 1, arrayBuffers, 0, arrayBuffers],
      ['process', 1, rss, 0, rss],
    ]
  },
}
