import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { orderSchema } from '../../../shared/wire.ts'
import { replaceFile } from '../atomic-file.ts'
import { reasonOf, type Log } from '../log.ts'
import type { KnownOrders } from './known-orders.ts'

const format = 1

const fileSchema = z.object({
  format: z.literal(format),
  fleet: z.string(),
  epoch: z.int().min(0),
  number: z.int().min(0),
  orders: z.array(
    orderSchema.extend({
      // 0 after a change of the epoch, until control's list arrives.
      number: z.int().min(0),
      effect: z.enum(['paused', 'disabled']),
      begins: z.boolean(),
      holds: z.boolean(),
      waits: z.boolean(),
    }),
  ),
})

/** `orders.json` in the state directory, which a process that drains goes on reading. */
export class OrderFile {
  readonly #path: string
  readonly #fleet: string
  readonly #log: Log

  constructor(stateFolder: string, fleet: string, log: Log) {
    this.#path = join(stateFolder, 'orders.json')
    this.#fleet = fleet
    this.#log = log
  }

  /** Undefined if there is none that can be used. */
  async read(): Promise<KnownOrders | undefined> {
    let content: unknown
    try {
      content = JSON.parse(await readFile(this.#path, 'utf8'))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      return this.#passOver(reasonOf(error))
    }
    const parsed = fileSchema.safeParse(content)
    if (!parsed.success) return this.#passOver('its content is invalid')
    const { format: _, fleet, ...known } = parsed.data
    return fleet === this.#fleet ? known : this.#passOver(`it belongs to the fleet ${fleet}`)
  }

  async write(known: KnownOrders): Promise<void> {
    const content: z.input<typeof fileSchema> = { format, fleet: this.#fleet, ...known, orders: [...known.orders] }
    await replaceFile(this.#path, `${JSON.stringify(content)}\n`)
  }

  #passOver(reason: string): undefined {
    this.#log('warn', "the fleet's orders could not be read; continuing with those of last-known-good", {
      path: this.#path,
      reason,
    })
    return undefined
  }
}
