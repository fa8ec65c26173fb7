/** PostgreSQL as the oracle: the same bytes sent to it and to a proxy must give the same messages. */
import { errorFields } from './wire.ts'
import type { Message, WireClient } from './wire.ts'

export interface Step {
  readonly send: readonly Uint8Array[]
  /** Read until this many messages with this tag have arrived: "Z", or for example "G" for CopyInResponse. */
  readonly until: string
  readonly count?: number
}

/** Runs the steps; returns one line per message. */
export async function transcript(client: WireClient, steps: readonly Step[]): Promise<string[]> {
  const lines: string[] = []
  for (const { send, until, count = 1 } of steps) {
    client.send(...send)
    for (const message of await client.readUntil(until, count)) lines.push(describe(message))
  }
  return lines
}

/** What a client can rely on in a message; what differs from run to run (process ids, source lines) is omitted. */
export function describe(message: Message): string {
  const { tag, body } = message
  switch (tag) {
    case 'E':
    case 'N': {
      const { S, C, M } = errorFields(message)
      return `${tag} ${S} ${C} ${M}`
    }
    case 'Z':
    case 'C':
    case 'S':
      return `${tag} ${body.toString().replaceAll('\0', ' ').trim()}`
    case 'K':
    case 'A':
      return tag
    case 'T':
      return `T ${columnNames(body).join(' ')}`
    default:
      return `${tag} ${body.toString('hex')}`.trim()
  }
}

/** Column names of a RowDescription; table OIDs and the like differ between databases. */
function columnNames(body: Buffer): string[] {
  const names: string[] = []
  for (let at = 2, left = body.readUInt16BE(0); left > 0; left--) {
    const end = body.indexOf(0, at)
    names.push(body.toString('utf8', at, end))
    at = end + 1 + 18
  }
  return names
}
