import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { changeLines, rebased } from '../../cli/rebase.ts'

test('a password is never printed', () => {
  const user = (password: unknown) => ({ pools: { app: { users: { web: { password } } } } })

  const lines = changeLines(user({ secret: 'web', version: 1 }), user('geheim'))

  expect(lines).toEqual(['~ pools.app.users.web.password = {"secret":"web","version":1} -> (a password)'])
})

test('additions, changes and removals of both sides are joined', () => {
  const base = { a: 1, b: 1, c: { d: 1, e: 1 } }

  const { tree, conflicts } = rebased(
    base,
    { a: 2, c: { d: 1, e: 1, mine: 1 } },
    { a: 1, b: 1, c: { d: 3, e: 1 }, f: 4 },
  )

  expect(conflicts).toEqual([])
  expect(tree).toEqual({ a: 2, c: { d: 3, e: 1, mine: 1 }, f: 4 })
})

test('lists and references change as a whole', () => {
  const server = (host: string) => ({ servers: [{ host }], password: { secret: host, version: 1 } })

  expect(rebased(server('a'), server('b'), server('c')).conflicts).toEqual(['servers', 'password'])
})

const tree = fc.letrec((tie) => ({
  tree: fc.dictionary(
    fc.constantFrom('a', 'b', 'c'),
    fc.oneof({ maxDepth: 3 }, fc.integer({ min: 0, max: 3 }), fc.array(fc.nat(2), { maxLength: 2 }), tie('tree')),
    { noNullPrototype: true },
  ),
})).tree

test('a side without changes gives the other one, and equal changes are one', () => {
  fc.assert(
    fc.property(tree, tree, (base, changed) => {
      for (const joined of [
        rebased(base, changed, base),
        rebased(base, base, changed),
        rebased(base, changed, changed),
      ]) {
        expect(joined).toEqual({ tree: changed, conflicts: [] })
      }
    }),
  )
})

test('without conflicts it does not matter whose changes are applied to whose', () => {
  fc.assert(
    fc.property(tree, tree, tree, (base, mine, theirs) => {
      const [one, other] = [rebased(base, mine, theirs), rebased(base, theirs, mine)]

      expect(one.conflicts.toSorted()).toEqual(other.conflicts.toSorted())
      const isJoined = one.conflicts.length === 0
      expect(isJoined ? one.tree : null).toEqual(isJoined ? other.tree : null)
    }),
  )
})
