import { expect, test } from 'vitest'
import { Outstanding, RequestKind } from '../../../../proxy/engine/session/outstanding.ts'

const { Parse, Bind, Describe, Execute, Sync, Query, CopyEnd } = RequestKind

function asked(...requests: RequestKind[]): Outstanding {
  const outstanding = new Outstanding()
  for (const request of requests) outstanding.push(request)
  return outstanding
}

/** Replies of a prepared statement that succeeds: 1 2 T C. */
function answerStatement(outstanding: Outstanding): void {
  outstanding.parsed()
  outstanding.bound()
  outstanding.described()
  outstanding.executed()
}

test('nothing is owed after every request of a pipeline was answered', () => {
  const outstanding = asked(Parse, Bind, Describe, Execute, Parse, Bind, Describe, Execute, Sync)

  answerStatement(outstanding)
  answerStatement(outstanding)
  expect(outstanding.empty).toBe(false)
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('a server still owes what was sent after the Sync it has answered', () => {
  const outstanding = asked(Sync, Parse)

  outstanding.ready()

  expect(outstanding.empty).toBe(false)
})

test('a server whose extended requests are all answered is not free before their Sync', () => {
  const outstanding = asked(Parse, Bind, Describe, Execute)

  answerStatement(outstanding)
  expect(outstanding.empty).toBe(false)
  outstanding.push(Sync)
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
})

test('an error skips everything up to the next Sync, also what is sent later', () => {
  const outstanding = asked(Parse, Bind)

  outstanding.failed()
  expect(outstanding.empty).toBe(false)
  outstanding.push(Execute)
  outstanding.push(Query)
  outstanding.push(Sync)
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('an error skips to the first Sync only: the next group is answered', () => {
  const outstanding = asked(Parse, Bind, Execute, Sync, Parse, Sync)

  outstanding.failed()
  outstanding.ready()
  outstanding.parsed()
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('an error of a simple query is followed by its own ReadyForQuery', () => {
  const outstanding = asked(Query, Query)

  outstanding.failed()
  outstanding.ready()
  outstanding.executed()
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('an error at the end of an implicit transaction belongs to its Sync', () => {
  const outstanding = asked(Sync)

  outstanding.failed()
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
})

test('the Sync that follows an Execute of COPY FROM STDIN is ignored by the server', () => {
  const outstanding = asked(Execute, Sync)

  outstanding.copyIn()
  outstanding.push(CopyEnd)
  outstanding.push(Sync)
  outstanding.executed()
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('a whole copy sent ahead of the answer keeps only the Sync after its end', () => {
  const outstanding = asked(Execute, Sync, CopyEnd, Sync)

  outstanding.copyIn()
  outstanding.executed()
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('a copy that fails before it begins answers both Syncs', () => {
  const outstanding = asked(Execute, Sync, CopyEnd, Sync)

  outstanding.failed()
  outstanding.ready()
  expect(outstanding.empty).toBe(false)
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('a copy that fails half-way in the extended protocol waits for the next Sync', () => {
  const outstanding = asked(Execute)

  outstanding.copyIn()
  outstanding.failed()
  outstanding.push(CopyEnd)
  outstanding.push(Sync)
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('a Sync that comes after another request than those of a copy is answered, whatever ends the copy', () => {
  const outstanding = asked(Execute, Query, Sync, CopyEnd, Parse, Sync)

  outstanding.copyIn()
  outstanding.failed()
  outstanding.ready()
  outstanding.parsed()
  expect(outstanding.empty).toBe(false)
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('a Sync that may have been read by a copy that failed makes the server doubtful, answered or not', () => {
  const ignored = asked(Execute, Sync)
  ignored.copyIn()
  ignored.failed()
  ignored.push(CopyEnd)
  ignored.push(Sync)
  ignored.ready()

  const answered = asked(Execute, Sync)
  answered.copyIn()
  answered.failed()
  answered.ready()

  for (const outstanding of [ignored, answered]) {
    expect(outstanding.empty).toBe(true)
    expect(outstanding.lost).toBe(false)
    expect(outstanding.doubtful).toBe(true)
  }
})

test('the CopyDone of a copy that failed before it arrived is owed nothing', () => {
  const outstanding = asked(Query, CopyEnd)

  outstanding.copyIn()
  outstanding.failed()
  outstanding.push(CopyEnd)
  outstanding.ready()
  expect(outstanding.empty).toBe(true)
  outstanding.push(Query)
  outstanding.push(CopyEnd)
  outstanding.failed()
  outstanding.ready()

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})

test('a stray CopyDone is owed nothing', () => {
  const outstanding = asked(CopyEnd)

  expect(outstanding.empty).toBe(true)
})

test('an answer that nothing asked for marks the server as lost', () => {
  const outstanding = asked(Query)

  outstanding.executed()
  outstanding.ready()
  outstanding.ready()

  expect(outstanding.lost).toBe(true)
  expect(outstanding.empty).toBe(false)
})

test('ten thousand requests in flight are answered in order', () => {
  const outstanding = new Outstanding()
  for (let index = 0; index < 5000; index++) {
    outstanding.push(Parse)
    outstanding.push(Sync)
  }

  for (let index = 0; index < 5000; index++) {
    outstanding.parsed()
    outstanding.ready()
  }

  expect(outstanding.empty).toBe(true)
  expect(outstanding.lost).toBe(false)
})
