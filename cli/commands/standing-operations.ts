import { operationLogSchema, standingOperationsSchema } from '../../shared/api.ts'
import type { OperationLog, StandingOperation } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'
import { shortTime, table } from '../table.ts'

const options = {
  log: { type: 'boolean', help: 'list all operations instead, newest first' },
  ...apiOptions,
} as const

export const standingOperations = command({ operands: [], options }, async ({ options }, around) => {
  const api = new Api(options, around)
  const listed = options.log
    ? await api.inFleet(operationLogSchema, '/operations/log')
    : await api.inFleet(standingOperationsSchema, '/operations')
  if (options.json) around.print(JSON.stringify(listed, undefined, 2))
  else around.print(table(['POOL', 'OPERATION', 'BY', 'AT', 'UNTIL', 'REASON'], listed.operations.map(row)))
  return 0
})

function row(one: StandingOperation | OperationLog['operations'][number]): (string | null)[] {
  const at = 'at' in one ? one.at : one.created_at
  return [one.pool, one.operation, one.actor, shortTime(at), shortTime(one.expires_at), one.reason]
}
