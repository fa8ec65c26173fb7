import { expect, test } from 'vitest'
import { tempFolder } from '../../support/temp-folder.ts'
import { document, inProcessControl } from '../in-process.ts'

test('two controls on one store: of many writers exactly one wins, each time', async () => {
  const folder = await tempFolder()
  const controls = [await inProcessControl({ folder }), await inProcessControl({ folder })]
  await controls[0]!.call('PUT', '/v1/fleets/demo')
  const rounds: { won: number; stale: number }[] = []

  for (let version = 0; version < 10; version += 1) {
    const answers = await Promise.all(
      [1, 2, 3, 4].map((writer) =>
        controls[writer % 2]!.call('PUT', '/v1/fleets/demo/config', {
          body: document({ pool_size: writer * 100 + version }),
          headers: { 'if-match': `"v${version}"` },
        }),
      ),
    )
    const count = (wanted: number): number => answers.filter(({ status }) => status === wanted).length
    rounds.push({ won: count(201), stale: count(412) })
  }

  expect(rounds).toEqual(rounds.map(() => ({ won: 1, stale: 3 })))
  const { body } = await controls[1]!.call('GET', '/v1/fleets/demo/versions')
  expect(body).toMatchObject({ versions: Array.from({ length: 10 }, (_, index) => ({ version: 10 - index })) })
})
