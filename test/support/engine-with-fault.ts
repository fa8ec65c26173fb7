/** The engine's thread as in production, except that it fails on request of a test, as if by a bug. */
import { Engine } from '../../proxy/engine/engine.ts'
import type { ToEngine } from '../../proxy/port.ts'
import { fault } from './fault.ts'

const receive = Object.getOwnPropertyDescriptor(Engine.prototype, 'receive')?.value as Engine['receive']

Engine.prototype.receive = function (message: ToEngine): void {
  if (message.type === 'reloaded' && message.error === fault) throw new Error(fault)
  receive.call(this, message)
}

await import('../../proxy/engine/main.ts')
