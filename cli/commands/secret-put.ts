import { secretWrittenSchema } from '../../shared/api.ts'
import { Api, apiOptions } from '../api.ts'
import { command } from '../command.ts'
import { Failure } from '../failure.ts'
import { readSecret } from '../read-secret.ts'

/** The value comes from a prompt or standard input, never from the command line, which other users can read. */
export const secretPut = command(
  { operands: ['NAME'], options: { ...apiOptions } },
  async ({ operands: [name = ''], options }, around) => {
    const api = new Api(options, around)
    const value = await readSecret(`value of ${name}: `, around)
    if (value === '') throw new Failure('the value is empty: enter it at the prompt or on standard input')
    const written = await api.inFleet(secretWrittenSchema, `/secrets/${encodeURIComponent(name)}`, {
      method: 'PUT',
      body: { value },
    })
    if (options.json) {
      around.print(JSON.stringify(written, undefined, 2))
      return 0
    }
    const version = `version ${written.version} of ${written.name}`
    around.print(written.created ? `created ${version}` : `${version} already has this value`)
    for (const { path, version: used } of written.older) {
      around.say(
        `${path} uses version ${used} until a configuration is applied that refers to the secret without a version`,
      )
    }
    return 0
  },
)
