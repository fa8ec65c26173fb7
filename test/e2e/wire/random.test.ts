/**
 * Any order of messages that a client may send: PostgreSQL and a pool answer alike. A failing seed is in the title; the
 * same seed makes the same messages.
 */
import { setImmediate as turn } from 'node:timers/promises'
import { beforeAll, expect, test } from 'vitest'
import {
  bind,
  closePortal,
  closeStatement,
  copyData,
  copyDone,
  copyFail,
  describePortal,
  describeStatement,
  execute,
  flush,
  functionCall,
  parse,
  query,
  sync,
} from '../../support/frontend-messages.ts'
import { describe } from '../../support/oracle.ts'
import { ConnectionEnded } from '../../support/wire.ts'
import type { WireClient } from '../../support/wire.ts'
import { Random } from '../../sim/random.ts'
import { loginDirectly, loginTo, startWorld } from './world.ts'
import type { World } from './world.ts'

let world: World

beforeAll(async () => {
  world = await startWorld({
    sql: [
      'CREATE TABLE copied (n int)',
      'ALTER TABLE copied OWNER TO app',
      'CREATE TABLE failing (n int)',
      'ALTER TABLE failing OWNER TO app',
      "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$",
      'CREATE TRIGGER fails BEFORE INSERT ON failing EXECUTE FUNCTION fails()',
    ],
  })
})

const seeds = Array.from({ length: 50 }, (_, i) => i + 1)

test.for(seeds)('PostgreSQL and a pool answer alike to any 30 messages: seed %i', async (seed) => {
  const random = new Random(seed)
  const script = Array.from({ length: 30 }, () => anyMessage(random))

  await expectAlike(script, seed)
})

test.for(seeds)('PostgreSQL and a pool answer alike to copies that go wrong in any way: seed %i', async (seed) => {
  const random = new Random(seed)
  const script = Array.from({ length: 30 }, () => anyCopyMessage(random))

  await expectAlike(script, seed)
})

async function expectAlike(script: readonly Said[], seed: number): Promise<void> {
  const wanted = await play(await loginDirectly(world), script, new Random(seed))
  for (const pool of ['transaction1', 'session1']) {
    const answers = await play(await loginTo(world, pool), script, new Random(seed))

    const length = wanted.at(-1) === theEnd ? Math.min(saidBefore(wanted), saidBefore(answers)) : wanted.length
    const said = `${pool}: ${script.map(({ says }) => says).join(' ')}`
    expect({ said, answers: answers.slice(0, length), last: answers.at(-1) }).toEqual({
      said,
      answers: wanted.slice(0, length),
      last: wanted.at(-1),
    })
  }
}

/** A server that ends a connection while requests are on their way resets it, and may take its last words along. */
function saidBefore(answers: readonly string[]): number {
  return answers.findIndex((line) => line.startsWith('E FATAL') || line === theEnd)
}

const theEnd = 'the end of the connection'

interface Said {
  readonly says: string
  readonly bytes: Buffer
}

const statements = [
  'SELECT 1',
  'SELECT 1 AS a; SELECT 2 AS b',
  'SELECT generate_series(1, 3)',
  'SELECT 1/(SELECT 0)',
  'SELEC',
  '',
  'BEGIN',
  'COMMIT',
  'ROLLBACK',
  'SAVEPOINT s',
  'COPY copied FROM STDIN',
  'COPY (SELECT generate_series(1, 3)) TO STDOUT',
  'SELECT 1; COPY copied FROM STDIN; SELECT 2',
  'COPY nothing FROM STDIN',
  "SET TimeZone = 'Asia/Tokyo'",
  'INSERT INTO copied VALUES (1)',
]

function anyMessage(random: Random): Said {
  const sql = random.pick(statements)
  const name = random.pick(['', 'x', 'x', 'y', 'z'])
  const portal = random.pick(['', '', '', 'p'])
  const extended = [
    { says: `P(${name}:${sql})`, bytes: parse(name, sql) },
    { says: `B(${portal},${name})`, bytes: bind(portal, name) },
    { says: `E(${portal})`, bytes: execute(portal) },
  ]
  const run = {
    says: extended.map(({ says }) => says).join(''),
    bytes: Buffer.concat(extended.map(({ bytes }) => bytes)),
  }
  return random.pick<Said>([
    { says: `Q(${sql})`, bytes: query(sql) },
    { says: `Q(${sql})`, bytes: query(sql) },
    run,
    run,
    { says: `${run.says}S`, bytes: Buffer.concat([run.bytes, sync]) },
    { says: `${run.says}S`, bytes: Buffer.concat([run.bytes, sync]) },
    ...extended,
    { says: `E(${portal},1)`, bytes: execute(portal, 1) },
    { says: `D(S${name})`, bytes: describeStatement(name) },
    { says: `D(P${portal})`, bytes: describePortal(portal) },
    { says: `C(S${name})`, bytes: closeStatement(name) },
    { says: `C(P${portal})`, bytes: closePortal(portal) },
    { says: 'S', bytes: sync },
    { says: 'S', bytes: sync },
    { says: 'H', bytes: flush },
    { says: 'd', bytes: copyData('7\n') },
    { says: 'd(bad)', bytes: copyData('x\n') },
    { says: 'c', bytes: copyDone },
    { says: 'f', bytes: copyFail('enough') },
    { says: 'F', bytes: functionCall(1317, ['seven77']) },
    { says: 'F(bad)', bytes: functionCall(1, []) },
  ])
}

/**
 * A Sync follows an Execute, as libpq sends it, or the end of a copy. Between the data of a copy that fails it cannot
 * be known, by the client either, which Sync will be answered.
 */
function anyCopyMessage(random: Random): Said {
  const sql = random.pick(['COPY copied FROM STDIN', 'COPY nothing FROM STDIN'])
  const run = Buffer.concat([parse('', sql), bind('', ''), execute('')])
  return random.pick<Said>([
    { says: `Q(${sql})`, bytes: query(sql) },
    { says: `PBE(${sql})`, bytes: run },
    { says: `PBES(${sql})`, bytes: Buffer.concat([run, sync]) },
    { says: 'd', bytes: copyData('7\n') },
    { says: 'd', bytes: copyData('7\n') },
    { says: 'd(bad)', bytes: copyData('x\n') },
    { says: 'c', bytes: copyDone },
    { says: 'f', bytes: copyFail('enough') },
    { says: 'cS', bytes: Buffer.concat([copyDone, sync]) },
    { says: 'cS', bytes: Buffer.concat([copyDone, sync]) },
    { says: 'fS', bytes: Buffer.concat([copyFail('enough'), sync]) },
    { says: 'H', bytes: flush },
  ])
}

/** Ends whatever is open, then asks for one last row by which the end of the answers is known. */
const ending = Buffer.concat([copyFail('over'), sync, query('ROLLBACK'), query("SELECT 'the end'")])
const lastRow = `D 000100000007${Buffer.from('the end').toString('hex')}`

/** Which message ended a COPY: of ours, sent in the place of the client's, it may be another than the client's. */
const whichMessage = /unexpected message type 0x[0-9a-f]{2} during/i

/** Everything that is answered up to the last row; begins and leaves the session clean. */
async function play(client: WireClient, script: readonly Said[], random: Random): Promise<string[]> {
  client.send(query('ROLLBACK; TRUNCATE copied'), query('DISCARD ALL'))
  await client.readUntil('Z', 2)
  const bytes = Buffer.concat([...script.map((said) => said.bytes), ending])
  const answering = answersOf(client)
  for (let at = 0; at < bytes.length;) {
    const end = at + random.size(4096)
    client.send(bytes.subarray(at, end))
    at = end
    await turn()
  }
  const answers = await answering
  client.close()
  await client.readToEnd()
  client.destroy()
  return answers
}

async function answersOf(client: WireClient): Promise<string[]> {
  const answers: string[] = []
  try {
    for (;;) {
      const answer = describe(await client.read()).replace(whichMessage, 'unexpected message during')
      answers.push(answer)
      if (answer === lastRow) break
    }
    for (const message of await client.readUntil('Z')) answers.push(describe(message))
  } catch (error) {
    if (!(error instanceof ConnectionEnded)) throw error
    answers.push(theEnd)
  }
  return answers
}
