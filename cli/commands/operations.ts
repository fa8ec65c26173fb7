import { operationSchema, orderForMaxS } from '../../shared/api.ts'
import type { OperationResult } from '../../shared/api.ts'
import { parseDuration } from '../../shared/config/duration.ts'
import { operations } from '../../shared/operations.ts'
import type { PoolOperation } from '../../shared/operations.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'
import type { Command } from '../command.ts'
import type { OptionSpecs } from '../arguments.ts'
import { WrongUsage } from '../failure.ts'
import { shortTime, table } from '../table.ts'

const reasonOption = {
  reason: { type: 'string', value: 'TEXT', help: 'why, for other operators' },
} as const satisfies OptionSpecs
const forOption = {
  for: { type: 'string', value: 'DURATION', help: 'end it by itself after this time, such as 10m' },
} as const satisfies OptionSpecs

/** Fails if a proxy could not be reached now or has no such pool. */
export function operationCommand(name: PoolOperation): Command {
  const begins = operations[name].order?.begins === true
  const options = { ...reasonOption, ...(begins ? forOption : {}), ...apiOptions }
  return command({ operands: ['POOL'], options }, async ({ operands, options }, around) => {
    const path = `/pools/${encodeURIComponent(operands[0] ?? '')}/${name}`
    const { reason } = options
    // Absent where the command has no such option.
    const lasts = (options as { for?: string | undefined }).for
    const body = {
      ...(reason === undefined ? {} : { reason }),
      ...(lasts === undefined ? {} : { for: secondsOf(lasts) }),
    }
    const answer = await new Api(options, around).inFleet(operationSchema, path, { method: 'POST', body })
    if (options.json) around.print(JSON.stringify(answer, undefined, 2))
    else around.print(table(['PROXY', 'OUTCOME', 'SERVERS LEFT', 'MESSAGE'], answer.proxies.map(row)))
    if (answer.expires_at !== null) around.say(`ends by itself at ${shortTime(answer.expires_at)}`)
    return answer.proxies.every(({ outcome }) => outcome === 'done' || outcome === 'under_way') ? 0 : 1
  })
}

function row({ id, outcome, servers, message }: OperationResult['proxies'][number]): (string | number | null)[] {
  return [id, outcome, servers, message]
}

function secondsOf(text: string): number {
  const seconds = (parseDuration(text) ?? 0) / 1000
  if (seconds >= 1 && seconds <= orderForMaxS) return seconds
  throw new WrongUsage(`--for must be a duration from 1s to 30d with a unit, such as 10m, not "${text}"`)
}
