import { expect, test } from 'vitest'
import { startControl } from '../../support/processes.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { document } from '../in-process.ts'

test('two control processes on one store: of many writers exactly one wins, each time', async () => {
  const folder = await tempFolder()
  const processes = [await startControl({ folder }), await startControl({ folder })]
  await processes[0]!.call('PUT', '/v1/fleets/demo')
  const rounds: { won: number; stale: number }[] = []

  for (let version = 0; version < 10; version += 1) {
    const answers = await Promise.all(
      [1, 2, 3, 4].map((writer) =>
        processes[writer % 2]!.call('PUT', '/v1/fleets/demo/config', document({ pool_size: writer * 100 + version }), {
          'if-match': `"v${version}"`,
        }),
      ),
    )
    const count = (wanted: number): number => answers.filter(({ status }) => status === wanted).length
    rounds.push({ won: count(201), stale: count(412) })
  }

  expect(rounds).toEqual(rounds.map(() => ({ won: 1, stale: 3 })))
  const { body } = await processes[1]!.call('GET', '/v1/fleets/demo/versions')
  expect(body).toMatchObject({ versions: Array.from({ length: 10 }, (_, index) => ({ version: 10 - index })) })
})
