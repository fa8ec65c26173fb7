import { BroadcastChannel } from 'node:worker_threads'
import { atEndOfFile } from '../../support/cleanup.ts'
import type { ToEngine } from '../../../proxy/port.ts'
import { channelName, type Instruction, type Told } from './engine-thread.fixture.ts'
import { until } from './until.ts'

export const scriptedEntry = new URL('engine-thread.fixture.ts', import.meta.url)

/** A test's end of the channel to the scripted engine, of this worker, that was told to listen on `port`. */
export class ScriptedEngine {
  readonly #channel: BroadcastChannel
  readonly told: Told[] = []

  constructor(port: number, worker = 0) {
    this.#channel = new BroadcastChannel(channelName(port, worker))
    // oxlint-disable-next-line unicorn/prefer-add-event-listener -- Node's channel has no other in its types
    this.#channel.onmessage = (event: unknown) => {
      // Only Instruction and Told go over the channel, and a channel does not hear itself.
      this.told.push((event as { data: Told }).data)
    }
    atEndOfFile(() => this.#channel.close())
  }

  /** Resolves when the engine has done it, which it cannot tell after "throw" and "hang". */
  async obeys(instruction: Instruction): Promise<void> {
    this.instruct(instruction)
    await until(`the engine obeys "${instruction.do}"`, () =>
      this.told.find((told) => 'obeyed' in told && told.obeyed === instruction.do),
    )
  }

  instruct(instruction: Instruction): void {
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a channel between threads, not a window
    this.#channel.postMessage(instruction)
  }

  /** Every message of this type the engine has got, oldest first. */
  got<Type extends ToEngine['type']>(type: Type): (ToEngine & { type: Type })[] {
    return this.told.flatMap((told) =>
      'got' in told && told.got.type === type ? [told.got as ToEngine & { type: Type }] : [],
    )
  }

  /** Resolves with the first message of this type that satisfies `accept`. */
  async gets<Type extends ToEngine['type']>(
    type: Type,
    accept: (message: ToEngine & { type: Type }) => boolean = () => true,
  ): Promise<ToEngine & { type: Type }> {
    return await until(`the engine gets ${type}`, () => this.got(type).find(accept))
  }
}

let lastPort = 0

/** A name for one scripted engine; nothing listens there. */
export function enginePort(): number {
  lastPort += 1
  return lastPort
}
