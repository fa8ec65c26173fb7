import { once } from 'node:events'
import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { startup } from '../test/support/frontend-messages.ts'
import { benchUser } from './pgbench.ts'
import type { Target } from './pgbench.ts'

/** Logins under way at a time, so that no accept queue overflows. */
const atOnce = 50

/** Logs in `count` clients, which then do nothing until `close`. */
export async function openIdleClients(target: Target, count: number): Promise<{ close(): void }> {
  const sockets: Socket[] = []
  while (sockets.length < count) {
    const batch = Array.from({ length: Math.min(atOnce, count - sockets.length) }, () => logIn(target))
    sockets.push(...(await Promise.all(batch)))
  }
  return {
    close() {
      for (const socket of sockets) socket.destroy()
    },
  }
}

async function logIn({ port, database }: Target): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(startup({ user: benchUser, database, application_name: 'bench' }))
  let greeting = Buffer.alloc(0)
  const greeted = Promise.withResolvers<void>()
  socket.on('data', (chunk) => {
    greeting = Buffer.concat([greeting, chunk])
    if (greeting[0] === errorTag) greeted.reject(new Error(greeting.toString('latin1')))
    else if (greeting.subarray(-readyForQuery.length).equals(readyForQuery)) greeted.resolve()
  })
  socket.on('close', () => greeted.reject(new Error('the login was cut off')))
  await greeted.promise
  return socket
}

const errorTag = 0x45 // E
const readyForQuery = Buffer.from('5a0000000549', 'hex')
