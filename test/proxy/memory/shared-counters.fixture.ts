/** One worker that takes and gives back what several may have `limit` of, and looks whether there are ever more. */
import { parentPort, workerData } from 'node:worker_threads'
import { SharedCounters } from '../../../proxy/memory/shared-counters.ts'

export interface Contest {
  readonly memory: SharedArrayBuffer
  /** How many hold it at this moment, counted apart from the board. */
  readonly held: SharedArrayBuffer
  readonly worker: number
  readonly workers: number
  readonly limit: number
  readonly times: number
}

if (parentPort !== null) {
  const { memory, held, worker, workers, limit, times } = workerData as Contest
  const counters = new SharedCounters(memory, workers)
  const counter = new Int32Array(held)
  let granted = 0
  let most = 0
  for (let time = 0; time < times; time++) {
    const slot = counters.acquire(worker, `key ${time % 3}`)
    if (slot === null) throw new Error('there is room for three keys')
    counters.add(slot, worker, 1)
    if (counters.total(slot) <= limit) {
      granted++
      most = Math.max(most, Atomics.add(counter, time % 3, 1) + 1)
      Atomics.sub(counter, time % 3, 1)
    }
    counters.add(slot, worker, -1)
    counters.release(worker, slot)
  }
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort.postMessage({ granted, most })
}
