import { operationSchema } from '../../shared/api.ts'
import type { OperationResult } from '../../shared/api.ts'
import type { PoolOperation } from '../../shared/operations.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'
import type { Command } from '../command.ts'
import { table } from '../table.ts'

/** Fails if a proxy could not be reached or has no such pool. */
export function operationCommand(name: PoolOperation): Command {
  return command({ operands: ['POOL'], options: apiOptions }, async ({ operands, options }, around) => {
    const path = `/pools/${encodeURIComponent(operands[0] ?? '')}/${name}`
    const answer = await new Api(options, around).inFleet(operationSchema, path, { method: 'POST', body: {} })
    if (options.json) around.print(JSON.stringify(answer, undefined, 2))
    else around.print(table(['PROXY', 'OUTCOME', 'SERVERS LEFT', 'MESSAGE'], answer.proxies.map(row)))
    return answer.proxies.every(({ outcome }) => outcome === 'done' || outcome === 'under_way') ? 0 : 1
  })
}

function row({ id, outcome, servers, message }: OperationResult['proxies'][number]): (string | number | null)[] {
  return [id, outcome, servers, message]
}
