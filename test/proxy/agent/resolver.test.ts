import { expect, test } from 'vitest'
import { Resolver, UnresolvableHost } from '../../../proxy/agent/resolver.ts'
import { atEndOfFile } from '../../support/cleanup.ts'
import { until } from './until.ts'

function newResolver(answers: Record<string, string[] | Error>) {
  const changes: Readonly<Record<string, readonly string[]>>[] = []
  const asked: string[] = []
  const resolver = new Resolver({
    lookup: async (host) => {
      asked.push(host)
      const answer = answers[host] ?? new Error('ENOTFOUND')
      return answer instanceof Error ? await Promise.reject(answer) : await Promise.resolve(answer)
    },
    timeoutMs: 50,
    log: () => undefined,
    onChange: (hosts) => changes.push(hosts),
  })
  atEndOfFile(() => resolver.stop())
  return { resolver, changes, asked }
}

test('a name gives all its addresses once, a literal itself', async () => {
  const { resolver, asked } = newResolver({ db: ['10.0.0.1', '10.0.0.2', '10.0.0.1'] })

  const found = await resolver.resolveAll(['db', '::1', 'db', '127.0.0.1'])

  expect(Object.fromEntries(found)).toEqual({
    db: ['10.0.0.1', '10.0.0.2'],
    '::1': ['::1'],
    '127.0.0.1': ['127.0.0.1'],
  })
  expect(asked).toEqual(['db'])
})

test('a name without an address is unresolvable', async () => {
  const { resolver } = newResolver({ empty: [] })

  await expect(resolver.resolveAll(['empty'])).rejects.toThrow(UnresolvableHost)
  await expect(resolver.resolveAll(['nowhere'])).rejects.toThrow('could not resolve the host nowhere: ENOTFOUND')
})

test('a look-up that never answers is given up', async () => {
  const resolver = new Resolver({
    lookup: async () => await new Promise(() => undefined),
    timeoutMs: 20,
    log: () => undefined,
    onChange: () => undefined,
  })

  await expect(resolver.resolveAll(['slow'])).rejects.toThrow('no response within 20 ms')
})

test('a name in use is looked up again, and a changed set of addresses is told once', async () => {
  const answers: Record<string, string[]> = { db: ['10.0.0.1', '10.0.0.2'] }
  const { resolver, changes, asked } = newResolver(answers)
  await resolver.resolveAll(['db'])
  resolver.watch(['db'], 5)
  await until('it is looked up again', () => asked.length > 2)

  answers['db'] = ['10.0.0.2', '10.0.0.3']
  await until('it is told', () => changes.length > 0)
  const seen = asked.length
  await until('it is looked up again', () => asked.length > seen + 1)

  expect(changes).toEqual([{ db: ['10.0.0.2', '10.0.0.3'] }])
})

test('the same addresses in another order are no change', async () => {
  const answers: Record<string, string[]> = { db: ['10.0.0.1', '10.0.0.2'] }
  const { resolver, changes, asked } = newResolver(answers)
  await resolver.resolveAll(['db'])
  resolver.watch(['db'], 5)

  answers['db'] = ['10.0.0.2', '10.0.0.1']
  await until('it is looked up again', () => asked.length > 3)

  expect(changes).toEqual([])
})

test('a name that cannot be looked up later keeps its addresses', async () => {
  const answers: Record<string, string[] | Error> = { db: ['10.0.0.1'] }
  const { resolver, changes, asked } = newResolver(answers)
  await resolver.resolveAll(['db'])
  resolver.watch(['db'], 5)

  answers['db'] = new Error('ENOTFOUND')
  await until('it is looked up again', () => asked.length > 3)

  expect(changes).toEqual([])
  expect(await resolver.resolveAll(['db'])).toEqual(new Map([['db', ['10.0.0.1']]]))
})

test('a name that is no longer used is not looked up again', async () => {
  const { resolver, asked } = newResolver({ db: ['10.0.0.1'], other: ['10.0.0.2'] })
  await resolver.resolveAll(['db', 'other'])

  resolver.watch(['other'], 5)
  await until('the other is looked up again', () => asked.filter((host) => host === 'other').length > 2)

  expect(asked.filter((host) => host === 'db')).toHaveLength(1)
})

test('addresses of the last run serve while a name cannot be looked up', async () => {
  const { resolver } = newResolver({})
  resolver.remember({ db: ['10.0.0.7'] })

  expect(await resolver.resolveAll(['db'])).toEqual(new Map([['db', ['10.0.0.7']]]))
})
