import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  ClientStatements,
  contradictsStatements,
  deallocatedName,
  deallocatesAll,
  errorInClientsWords,
  namesPortal,
  nameStart,
  ServerStatements,
  Statements,
} from '../../../../proxy/engine/session/prepared.ts'
import type { Circumstances, Statement } from '../../../../proxy/engine/session/prepared.ts'
import { StatementMemory } from '../../../../proxy/engine/session/statement-memory.ts'
import { bind, closeStatement, describePortal, describeStatement, parse } from '../../../support/frontend-messages.ts'

const headerBytes = 5

/** What follows the name in a Parse: text and parameter types. */
function textOf(sql: string, types: readonly number[] = []): Buffer {
  return parse('', sql, types).subarray(headerBytes + 1)
}

/** The client's parameters are `meaning`; the schema has not changed. */
function under(meaning: string): Circumstances {
  return { meaning, schema: 0 }
}

function newStatements(): Statements {
  return new Statements(new StatementMemory(() => Infinity))
}

function newNames(statements = newStatements()): ClientStatements {
  return new ClientStatements(statements)
}

function get(names: ClientStatements, name: string): Statement | undefined {
  const bytes = Buffer.from(`x${name}\0`)
  return names.get(bytes, 1, bytes.length - 1)
}

function use(names: ClientStatements, name: string, meaning: string): Statement | undefined {
  const bytes = Buffer.from(name)
  return names.use(bytes, 0, bytes.length, meaning)?.statement
}

describe('statements of a pool', () => {
  test('clients with the same text, types and meaning share a statement', () => {
    const statements = newStatements()

    const first = statements.acquire(textOf('SELECT $1', [23]), under('a'))

    expect(statements.acquire(textOf('SELECT $1', [23]), under('a'))).toBe(first)
    expect(statements.acquire(textOf('SELECT $1', [25]), under('a'))).not.toBe(first)
    expect(statements.acquire(textOf('SELECT $1', [23]), under('b'))).not.toBe(first)
    expect(statements.acquire(textOf('SELECT  $1', [23]), under('a'))).not.toBe(first)
    expect(statements.size).toBe(4)
  })

  test('its messages carry a name of ours in place of the name the client gave', () => {
    const statement = newStatements().acquire(textOf('SELECT 1'), under(''))

    expect(statement.serverName.toString()).toBe('flotilla_1')
    expect(statement.parse).toEqual(parse('flotilla_1', 'SELECT 1'))
    expect(statement.close).toEqual(closeStatement('flotilla_1'))
    expect(statement.describe).toEqual(describeStatement('flotilla_1'))
    expect(Buffer.from(statement.textAndTypes)).toEqual(textOf('SELECT 1'))
  })

  test('one that no client has any more is forgotten, and its name is not given again', () => {
    const statements = newStatements()
    const first = statements.acquire(textOf('SELECT 1'), under(''))
    statements.acquire(textOf('SELECT 1'), under(''))

    statements.release(first)
    const afterOne = statements.size
    statements.release(first)
    const next = statements.acquire(textOf('SELECT 1'), under(''))

    expect([afterOne, statements.size]).toEqual([1, 1])
    expect(next.serverName.toString()).toBe('flotilla_2')
    expect(() => statements.release(first)).toThrow('released as often')
  })
})

describe('names of a client', () => {
  const namesAndTexts = fc.uniqueArray(fc.tuple(fc.string({ maxLength: 5 }), fc.nat(3)), {
    selector: ([name]) => name,
    maxLength: 30,
  })

  test('each stands for its own statement, whatever bytes it has, until it is removed', () => {
    fc.assert(
      fc.property(namesAndTexts, fc.nat(), (all, seed) => {
        const statements = newStatements()
        const names = newNames(statements)
        for (const [name, text] of all) names.add(Buffer.from(name), textOf(`SELECT ${text}`), under(''))

        for (const [name, text] of all) {
          expect(get(names, name)).toBe(statements.find(textOf(`SELECT ${text}`), under('')))
        }
        const removed = all.filter((_, at) => (seed >> (at % 30)) & 1)
        for (const [name] of removed) names.remove(Buffer.from(name))
        const kept = all.filter((one) => !removed.includes(one))
        expect(removed.map(([name]) => get(names, name))).toEqual(removed.map(() => undefined))
        expect(kept.every(([name]) => get(names, name) !== undefined)).toBe(true)
        expect(names.size).toBe(kept.length)
        expect(statements.size).toBe(new Set(kept.map(([, text]) => text)).size)
        names.clear()
        expect([names.size, statements.size]).toEqual([0, 0])
      }),
    )
  })

  test('names with the same hash are told from each other', () => {
    const same = namesWithOneHash()

    for (const removed of same) {
      const names = newNames()
      const statements = same.map((name, at) => names.add(Buffer.from(name), textOf(`SELECT ${at}`), under('')))

      names.remove(Buffer.from(removed))

      expect(same.map((name) => get(names, name))).toEqual(
        statements.map((statement, at) => (same[at] === removed ? undefined : statement)),
      )
    }
  })

  test('a name is removed only while it still stands for the given statement', () => {
    const names = newNames()
    const first = names.add(Buffer.from('a'), textOf('SELECT 1'), under(''))
    names.remove(Buffer.from('a'))
    const second = names.add(Buffer.from('a'), textOf('SELECT 2'), under(''))

    names.remove(Buffer.from('a'), first)
    expect(get(names, 'a')).toBe(second)
    names.remove(Buffer.from('a'), second)
    expect(get(names, 'a')).toBeUndefined()
  })

  test('a name whose removal was not executed is back, with the same statement', () => {
    const statements = newStatements()
    const names = newNames(statements)
    const statement = names.add(Buffer.from('a'), textOf('SELECT 1'), under(''))
    const release = names.hold(statement)
    names.remove(Buffer.from('a'))

    names.restore(Buffer.from('a'), statement)
    release()

    expect(get(names, 'a')).toBe(statement)
    expect(statements.find(textOf('SELECT 1'), under(''))).toBe(statement)
  })

  test('after a change of its parameters the same text is another statement under the same name', () => {
    const names = newNames()
    const before = names.add(Buffer.from('a'), textOf('SELECT 1'), under('path=a'))

    expect(use(names, 'a', 'path=b')).toBe(before)
    names.changeMeaning()
    const after = use(names, 'a', 'path=b')

    expect(after).not.toBe(before)
    expect(after?.meaning).toBe('path=b')
    expect(Buffer.from(after!.textAndTypes)).toEqual(textOf('SELECT 1'))
    expect(get(names, 'a')).toBe(after)
    expect(use(names, 'b', 'path=b')).toBeUndefined()
  })

  test('what a name stands for is settled within its group, and after a Sync once it was answered', () => {
    const names = newNames()
    const name = Buffer.from('a')
    const isSettled = (group: number): boolean => names.isSettled(name, 0, name.length, group)

    const settle = names.unsettle(name, null, 1)
    const before = [isSettled(1), isSettled(2)]
    const settleLater = names.unsettle(name, null, 2)
    settle()
    const later = [isSettled(1), isSettled(2)]
    settleLater()

    expect(before).toEqual([true, false])
    expect(later).toEqual([false, true])
    expect([isSettled(1), isSettled(2)]).toEqual([true, true])
  })

  test('DEALLOCATE ALL drops what was answered, and keeps what is in flight', () => {
    const names = newNames()
    names.add(Buffer.from('answered'), textOf('SELECT 1'), under(''))
    names.add(Buffer.from('in flight'), textOf('SELECT 2'), under(''))
    names.unsettle(Buffer.from('in flight'), null, 1)

    names.clearSettled()

    expect(get(names, 'answered')).toBeUndefined()
    expect(get(names, 'in flight')).toBeDefined()
  })
})

/** Four names with the same FNV-1a: two that collide, each followed by either of two that collide from there. */
function namesWithOneHash(): string[] {
  const start = 0x811c9dc5
  const first = collision(start)
  const second = collision(fnv(first[0], start))
  return first.flatMap((name) => second.map((rest) => name + rest))
}

function fnv(text: string, start: number): number {
  return Buffer.from(text).reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193), start)
}

/** Two texts with the same hash, found in about 2^17 attempts. */
function collision(start: number): [string, string] {
  const seen = new Map<number, string>()
  for (let number = 0; ; number++) {
    const text = number.toString(36)
    const hash = fnv(text, start)
    const other = seen.get(hash)
    if (other !== undefined) return [other, text]
    seen.set(hash, text)
  }
}

describe('statements of a server', () => {
  const statements = newStatements()
  const [a, b, c] = ['a', 'b', 'c'].map((name) => statements.acquire(textOf(`SELECT '${name}'`), under(''))) as [
    Statement,
    Statement,
    Statement,
  ]

  test('the least recently used one is surplus', () => {
    const server = new ServerStatements()
    for (const statement of [a, b, c]) server.change(statement, 1, true).done()

    const first = server.surplus(2)
    server.touch(a)
    const afterUse = server.surplus(2)

    expect([first, afterUse, server.surplus(3)]).toEqual([a, b, undefined])
  })

  test('a request counts from when it is sent, and is undone if it was skipped', () => {
    const server = new ServerStatements()

    const prepared = server.change(a, 1, true)
    const sent = server.has(a)
    prepared.dropped()
    const skipped = server.has(a)
    server.change(a, 2, true).done()
    const closed = server.change(a, 3, false)
    const closing = server.has(a)
    closed.dropped()

    expect([sent, skipped, closing, server.has(a)]).toEqual([true, false, false, true])
  })

  /**
   * Requests about one statement: groups answered in order, and within a group an error drops the rest, last first. A
   * server that executes them must have the statement exactly when the model says so.
   */
  test('after any requests, executed or skipped, it is known what the server has', () => {
    const groups = fc.array(
      fc.record({
        requests: fc.array(fc.boolean(), { minLength: 1, maxLength: 4 }),
        executed: fc.nat(4),
      }),
      { maxLength: 6 },
    )

    fc.assert(
      fc.property(groups, fc.nat(6), (all, inFlight) => {
        const server = new ServerStatements()
        let there = false
        const sent: { outcomes: { done: () => void; dropped: () => void }[]; executed: number }[] = []
        const answerOldest = (): void => {
          const { outcomes, executed } = sent.shift()!
          for (const outcome of outcomes.slice(0, executed)) outcome.done()
          for (const outcome of outcomes.slice(executed).toReversed()) outcome.dropped()
        }
        for (const [group, { requests, executed }] of all.entries()) {
          if (sent.length > inFlight) answerOldest()
          sent.push({ outcomes: requests.map((to) => server.change(a, group, to)), executed })
          there = requests.slice(0, executed).at(-1) ?? there
        }
        while (sent.length > 0) answerOldest()

        expect(server.has(a)).toBe(there)
        expect(server.isAwaitedFromBefore(a, all.length)).toBe(false)
      }),
      { numRuns: 1000 },
    )
  })

  test('the outcome of a request sent before a Sync is awaited by later groups only', () => {
    const server = new ServerStatements()

    const { done } = server.change(a, 1, true)
    const awaited = [server.isAwaitedFromBefore(a, 1), server.isAwaitedFromBefore(a, 2)]
    done()

    expect(awaited).toEqual([false, true])
    expect(server.isAwaitedFromBefore(a, 2)).toBe(false)
  })

  test('a description is valid as long as the server has the statement', () => {
    const server = new ServerStatements()
    server.change(a, 1, true).done()

    server.describe(a, 'row of int4')
    server.describe(b, 'row of text')
    const described = [server.description(a), server.description(b)]
    server.touch(a)
    const used = server.description(a)
    server.change(a, 2, false).done()
    server.change(a, 3, true).done()

    expect([described, used, server.description(a)]).toEqual([['row of int4', null], 'row of int4', null])
  })

  test.for([
    ['clear', false],
    ['doubt', true],
  ] as const)('after %s nothing is known, and it is in doubt whether there is anything: %s', ([how, doubtful]) => {
    const server = new ServerStatements()
    server.change(a, 1, true)

    server[how]()

    expect([server.size, server.has(a), server.doubtful]).toEqual([0, false, doubtful])
    expect(server.isAwaitedFromBefore(a, 2)).toBe(false)
  })
})

describe('the name in a message', () => {
  const names = fc.string({ maxLength: 70 }).map((text) => text.replaceAll('\0', ''))

  test('is found in Parse, Bind, Describe and Close, whatever it is', () => {
    fc.assert(
      fc.property(names, names, (name, portalName) => {
        for (const bytes of [parse(name, ''), bind(portalName, name), describeStatement(name), closeStatement(name)]) {
          const start = nameStart(bytes, bytes[0]!, headerBytes, bytes.length)
          expect(bytes.toString('utf8', start, bytes.indexOf(0, start))).toBe(name)
        }
      }),
    )
  })

  test.for([
    [describePortal('a'), true],
    [describeStatement('a'), false],
    [closeStatement('a'), false],
    [parse('P', ''), false],
    [bind('P', 'a'), false],
  ] as const)('only Describe and Close may be of a portal: %o', ([bytes, expected]) => {
    expect(namesPortal(bytes, bytes[0]!, headerBytes)).toBe(expected)
  })

  test('is missing before it has arrived', () => {
    const bytes = bind('portal', 'a')

    for (const end of [headerBytes, headerBytes + 'portal'.length]) {
      expect(nameStart(bytes, bytes[0]!, headerBytes, end)).toBe(end)
    }
  })
})

describe('DEALLOCATE', () => {
  test.for([
    ['DEALLOCATE a', 'a'],
    ['  deallocate PREPARE Abc ; ', 'abc'],
    ['DEALLOCATE "Abc"', 'Abc'],
    ['DEALLOCATE "a""b"', 'a"b'],
    ['DEALLOCATE "all"', 'all'],
    ['DEALLOCATE _a$1', '_a$1'],
    ['DEALLOCATE ALL', null],
    ['DEALLOCATE PREPARE ALL', null],
    ['DEALLOCATE a; SELECT 1', null],
    ['DEALLOCATE a, b', null],
    ['DEALLOCATE 1a', null],
    ['DEALLOCATE', null],
    ['SELECT 1', null],
  ] as const)('%j names %j', ([sql, expected]) => {
    expect(deallocatedName(sql)).toBe(expected)
  })

  test.for([
    ['DEALLOCATE ALL', true],
    [' deallocate prepare all;', true],
    ['DISCARD  ALL', true],
    ['DEALLOCATE a', false],
    ['DEALLOCATE "all"', false],
    ['DEALLOCATE allowed', false],
    ['DISCARD PLANS', false],
    ['SELECT 1', false],
  ] as const)('%j drops all statements: %s', ([sql, expected]) => {
    expect(deallocatesAll(sql)).toBe(expected)
  })
})

describe('errors', () => {
  test.for([
    ['26000', undefined, true],
    ['42P05', undefined, true],
    ['0A000', 'RevalidateCachedQuery', true],
    ['0A000', 'transformStmt', false],
    ['42601', undefined, false],
  ] as const)('%s by %s contradicts what is known of statements: %s', ([code, routine, expected]) => {
    const fields = { severity: 'ERROR', code, message: 'no', routine } as unknown as Parameters<
      typeof contradictsStatements
    >[0]

    expect(contradictsStatements(fields)).toBe(expected)
  })

  const error = (text: string): Buffer => Buffer.concat([Buffer.from('E\0\0\0\0', 'latin1'), Buffer.from(text)])

  test('an error names the statement as the client does', () => {
    const names = newNames()
    const { serverName } = names.add(Buffer.from('mine'), textOf('SELECT 1'), under(''))
    const bytes = error(`Sprepared statement "${serverName.toString()}" does not exist\0\0`)

    const told = errorInClientsWords(names, undefined, bytes, 0, bytes.length)

    const body = 'Sprepared statement "mine" does not exist\0\0'
    expect(Buffer.from(told!)).toEqual(
      Buffer.concat([Buffer.from('E'), Buffer.from([0, 0, 0, 4 + body.length]), Buffer.from(body)]),
    )
  })

  test('while a request is in flight its name is known, also one that was dropped', () => {
    const names = newNames()
    const statement = names.add(Buffer.from('mine'), textOf('SELECT 1'), under(''))
    names.remove(Buffer.from('mine'))
    names.unsettle(Buffer.from('mine'), statement, 1)

    expect(Buffer.from(names.nameOf(statement.serverName.toString())!).toString()).toBe('mine')
  })

  test.for(['Sno name\0\0', 'Sstatement "flotilla_99" of another client\0\0', 'Sflotilla_1\0\0'])(
    'an error without a name of this client stays as it is: %j',
    (text) => {
      const names = newNames()
      names.add(Buffer.from('mine'), textOf('SELECT 1'), under(''))
      const bytes = error(text)

      const told = errorInClientsWords(names, undefined, bytes, 0, bytes.length)

      expect(told === null ? text : Buffer.from(told).toString('utf8', headerBytes)).toBe(text)
    },
  )
})
