import { expect, test } from 'vitest'
import { ClientStatements, Statements } from '../../../../proxy/engine/session/prepared.ts'
import { StatementMemory } from '../../../../proxy/engine/session/statement-memory.ts'

const under = { meaning: '', schema: 0 }

/** What follows the name in a Parse of a text of this length. */
function parseOf(length: number, letter = 'x'): Buffer {
  return Buffer.from(`${letter.repeat(length)}\0\0\0`)
}

function statementsWith(bytesMax: number): Statements {
  return new Statements(new StatementMemory(() => bytesMax))
}

test('a text that several clients prepare is kept once, and given up with the last name for it', () => {
  const statements = statementsWith(1_000_000)
  const [one, two] = [new ClientStatements(statements), new ClientStatements(statements)]

  const held = one.add(Buffer.from('a'), parseOf(100_000), under)
  const onceBytes = statements.memory.bytes
  const same = two.add(Buffer.from('b'), parseOf(100_000), under)
  const twiceBytes = statements.memory.bytes
  one.clear()
  two.remove(Buffer.from('b'))

  expect(same).toBe(held)
  expect(twiceBytes - onceBytes).toBeLessThan(1000)
  expect(statements.memory.bytes).toBe(0)
})

test('long texts that differ in one byte are two statements', () => {
  const client = new ClientStatements(statementsWith(1_000_000))

  const one = client.add(Buffer.from('a'), parseOf(10_000), under)
  const two = client.add(Buffer.from('b'), parseOf(10_001), under)

  expect(two).not.toBe(one)
})

test('a text has room up to a quarter of the memory, and all together up to the whole', () => {
  const statements = statementsWith(100_000)
  const client = new ClientStatements(statements)

  const tooLong = statements.hasRoom(parseOf(25_001), under, Buffer.from('a'))
  for (const letter of ['a', 'b', 'c']) client.add(Buffer.from(letter), parseOf(24_000, letter), under)
  const another = statements.hasRoom(parseOf(24_000, 'd'), under, Buffer.from('d'))
  const known = statements.hasRoom(parseOf(24_000, 'a'), under, Buffer.from('d'))

  expect([tooLong, another, known]).toEqual([false, false, true])
})

test('a statement whose name is being closed is kept until the outcome is known', () => {
  const statements = statementsWith(1_000_000)
  const client = new ClientStatements(statements)
  const name = Buffer.from('a')
  const statement = client.add(name, parseOf(5000), under)

  const release = client.hold(statement)
  client.remove(name)
  const meanwhile = statement.parse.length
  client.restore(name, statement)
  release()
  const restored = statement.parse.length
  client.remove(name)

  expect([meanwhile, restored].every((length) => length > 5000)).toBe(true)
  expect(statements.memory.bytes).toBe(0)
})

test('a client that leaves while a name is being closed keeps nothing', () => {
  const statements = statementsWith(1_000_000)
  const client = new ClientStatements(statements)
  const statement = client.add(Buffer.from('a'), parseOf(5000), under)
  const release = client.hold(statement)
  client.remove(Buffer.from('a'))

  client.clear()
  release()

  expect(statements.memory.bytes).toBe(0)
})

test('a statement in doubt stays with its clients and is given to no other', () => {
  const statements = statementsWith(1_000_000)
  const [one, two] = [new ClientStatements(statements), new ClientStatements(statements)]
  const held = one.add(Buffer.from('a'), parseOf(10), under)

  statements.doubt(held)
  const anew = two.add(Buffer.from('a'), parseOf(10), under)

  expect(anew).not.toBe(held)
  expect(one.get(Buffer.from('a'), 0, 1)).toBe(held)
  expect(anew.serverName).not.toEqual(held.serverName)
})
