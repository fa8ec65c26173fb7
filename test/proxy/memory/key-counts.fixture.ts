/** One thread that counts the same keys as others do. */
import { parentPort, workerData } from 'node:worker_threads'
import { KeyCounts } from '../../../proxy/memory/key-counts.ts'

export interface Counting {
  readonly memory: SharedArrayBuffer
  readonly owner: number
  readonly keys: readonly Uint8Array[]
  readonly times: number
}

if (parentPort !== null) {
  const { memory, owner, keys, times } = workerData as Counting
  const counts = new KeyCounts(memory, owner)
  for (let time = 0; time < times; time++) for (const key of keys) counts.add(key, time, Infinity)
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort.postMessage('done')
}
