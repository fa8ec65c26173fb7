import { writtenSchema } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { wholeNumber } from '../arguments.ts'
import { awaitProxies, waitOptions } from '../await-proxies.ts'
import { command } from '../command.ts'
import { planLines } from '../write-config.ts'

const options = {
  message: { type: 'string', short: 'm', help: 'comment for the list of versions' },
  ...waitOptions,
  ...apiOptions,
} as const

export const rollback = command({ operands: ['N'], options }, async ({ operands: [n = ''], options }, around) => {
  const to = wholeNumber('N', n, 1, Number.MAX_SAFE_INTEGER)
  const api = new Api(options, around)
  const written = await api.inFleet(writtenSchema, '/rollback', {
    method: 'POST',
    body: { to, ...(options.message === undefined ? {} : { message: options.message }) },
  })
  if (options.json) around.print(JSON.stringify(written, undefined, 2))
  else if (!written.created) around.print(`v${written.version} already has the content of v${to}: no changes`)
  else
    around.print(
      [`v${written.version} is now current, with the content of v${to}`, ...planLines(written.plan)].join('\n'),
    )
  return options.wait ? awaitProxies(api, written.version, options.timeout, around) : 0
})
