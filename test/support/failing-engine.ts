/**
 * Loaded first into a proxy, it makes one engine thread fail, as if by a bug, at the next message after the file exists that
 * FLOTILLA_TEST_FAILS names. The file is removed by that.
 */
import { unlinkSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import { Engine } from '../../proxy/engine/engine.ts'
import type { ToEngine } from '../../proxy/port.ts'

const path = process.env['FLOTILLA_TEST_FAILS']

if (!isMainThread && path !== undefined) {
  const receive = Object.getOwnPropertyDescriptor(Engine.prototype, 'receive')?.value as Engine['receive']
  Engine.prototype.receive = function (message: ToEngine): void {
    if (isRemoved(path)) throw new Error('a fault set off by a test')
    receive.call(this, message)
  }
}

function isRemoved(file: string): boolean {
  try {
    unlinkSync(file)
    return true
  } catch {
    return false
  }
}
