import { ControlCannotStart, raiseEpoch } from '../../control/node.ts'
import { epochRaisedSchema, epochSchema } from '../../shared/api.ts'
import type { Epoch } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { command } from '../command.ts'
import type { Surroundings } from '../command.ts'
import { Failure, WrongUsage } from '../failure.ts'

const options = {
  data: { type: 'string', value: 'DIR', help: "work on control's data directory instead of calling control" },
  to: { type: 'string', value: 'N', help: 'the new epoch; above that of every proxy by default' },
  yes: { type: 'boolean', help: 'do not ask' },
  ...apiOptions,
} as const

/** Proxies accept no version older than the one they run unless the epoch has risen. There is no way back. */
export const epochRaise = command({ operands: [], options }, async ({ options }, around) => {
  const { print } = around
  const given = options.to === undefined ? undefined : wholeNumber('--to', options.to, 2, Number.MAX_SAFE_INTEGER)
  if (options.data !== undefined) {
    if (given !== undefined) throw new WrongUsage('--to has no effect with --data')
    print(raisedText(await raisedOffline(options.data)))
    return 0
  }
  const api = new Api(options, around)
  const now = await api.call(epochSchema, '/v1/epoch')
  const to = given ?? now.needed ?? now.epoch + 1
  for (const line of linesOf(now)) around.say(line)
  if (!options.yes) await confirm(now, to, around)
  const { epoch, before } = await api.call(epochRaisedSchema, '/v1/epoch', { method: 'POST', body: { to } })
  print(options.json ? JSON.stringify({ epoch, before }, undefined, 2) : raisedText(epoch))
  return 0
})

function raisedText(epoch: number): string {
  return `the epoch is now ${epoch}: proxies follow this store from their next poll`
}

async function raisedOffline(data: string): Promise<number> {
  try {
    return await raiseEpoch(data)
  } catch (cause) {
    if (cause instanceof ControlCannotStart) throw new Failure(cause.message, { cause })
    throw cause
  }
}

function linesOf({ epoch, above, ignored }: Epoch): string[] {
  const text = ({ fleet, id, position }: Epoch['above'][number]): string =>
    `  ${fleet}/${id}: v${position.version} of epoch ${position.epoch}`
  return [
    `the epoch of this store is ${epoch}`,
    above.length === 0 ? 'no proxy is above it' : 'these proxies are above it:',
    ...above.map(text),
    ...(ignored.length === 0 ? [] : ['these claim an epoch that is too high to be followed:', ...ignored.map(text)]),
  ]
}

async function confirm(now: Epoch, to: number, { readHidden }: Pick<Surroundings, 'readHidden'>): Promise<void> {
  if (readHidden === undefined) throw new Failure(`not confirmed: --yes raises it to ${to}`)
  const question = `raise it from ${now.epoch} to ${to}? Proxies then run the versions of this store. Type "yes": `
  if ((await readHidden(question)).trim() !== 'yes') throw new Failure('not confirmed; nothing was changed')
}
