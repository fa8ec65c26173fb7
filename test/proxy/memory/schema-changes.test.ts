import { expect, test } from 'vitest'
import { SchemaChanges } from '../../../proxy/memory/schema-changes.ts'

test('a change of one database’s schema is seen by every thread, and is none of another database', () => {
  const memory = SchemaChanges.memory()
  const [here, there] = [new SchemaChanges(memory), new SchemaChanges(memory)]
  const before = [there.of('one').version, there.of('two').version]

  here.of('one').changed()

  expect(there.of('one').version).not.toBe(before[0])
  expect(there.of('two').version).toBe(before[1])
})

test('versions of two databases are never the same', () => {
  const changes = new SchemaChanges(SchemaChanges.memory())
  const [one, two] = [changes.of('one'), changes.of('two')]
  const seen = new Set<number>()

  for (let times = 0; times < 100; times++) {
    one.changed()
    two.changed()
    seen.add(one.version).add(two.version)
  }

  expect(seen.size).toBe(200)
})
