import { expect, test } from 'vitest'
import { limiter } from '../../../control/node/limiter.ts'

test('as many tasks run as are allowed, the others follow in their order, also after one that fails', async () => {
  const run = limiter(2)
  const started: string[] = []
  const ends = new Map<string, PromiseWithResolvers<string>>()
  const task = (name: string) => async (): Promise<string> => {
    started.push(name)
    const end = Promise.withResolvers<string>()
    ends.set(name, end)
    return await end.promise
  }

  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(async (name) => await run(task(name)))
  const first = [...started]
  ends.get('b')?.reject(new Error('b failed'))
  await expect(b).rejects.toThrow('b failed')
  const second = [...started]
  ends.get('a')?.resolve('a')
  await a
  const third = [...started]
  for (const name of ['c', 'd']) ends.get(name)?.resolve(name)

  expect([first, second, third]).toEqual([
    ['a', 'b'],
    ['a', 'b', 'c'],
    ['a', 'b', 'c', 'd'],
  ])
  expect(await Promise.all([c, d])).toEqual(['c', 'd'])
})
