/** Everything that is injected into a world, one line each: how often, and what. */
import type { HostState } from './network.ts'
import type { Postgres } from './postgres.ts'
import { breaksThings, changesThings, isRude } from './profile.ts'
import type { Profile } from './profile.ts'
import type { SimSocket } from './io.ts'
import type { World } from './world.ts'

interface Fault {
  /** Relative to the others; 0 is never. */
  weight(profile: Profile): number
  inject(world: World): void
}

const faults = {
  comeIn: { weight: () => 3, inject: comeIn },
  strayIn: { weight: (profile) => (isRude(profile) ? 1 : 0), inject: strayIn },
  terminate: { weight: () => 1, inject: (world) => world.anyClient()?.leave('terminate') },
  cancel: { weight: () => 4, inject: (world) => world.busyClient()?.cancel() },
  cancelWrong: { weight: (profile) => (isRude(profile) ? 1 : 0), inject: (world) => world.anyClient()?.cancelWrong() },
  leave: { weight: (profile) => (isRude(profile) ? 6 : 0), inject: leave },
  babble: { weight: (profile) => (isRude(profile) ? 1 : 0), inject: (world) => world.anyClient()?.babble() },
  freeze: { weight: (profile) => (isRude(profile) ? 3 : 0), inject: freeze },
  apply: { weight: (profile) => (changesThings(profile) ? 8 : 0), inject: (world) => world.applyNext() },
  addresses: { weight: (profile) => (changesThings(profile) ? 2 : 0), inject: (world) => world.moveHost() },
  pause: { weight: (profile) => (changesThings(profile) ? 1 : 0), inject: (world) => world.pause() },
  suspend: { weight: (profile) => (changesThings(profile) ? 1 : 0), inject: (world) => world.suspend() },
  reconnect: { weight: (profile) => (changesThings(profile) ? 1 : 0), inject: (world) => world.reconnect() },
  kill: { weight: (profile) => (changesThings(profile) ? 0.2 : 0), inject: (world) => world.kill() },
  killClient: { weight: (profile) => (changesThings(profile) ? 0.3 : 0), inject: (world) => world.killClient() },
  clientCut: { weight: (profile) => (breaksThings(profile) ? 2 : 0), inject: clientCut },
  serverCut: { weight: (profile) => (breaksThings(profile) ? 5 : 0), inject: serverCut },
  serverSilence: { weight: (profile) => (breaksThings(profile) ? 3 : 0), inject: serverSilence },
  serverTerminate: { weight: (profile) => (breaksThings(profile) ? 3 : 0), inject: serverTerminate },
  serverClose: { weight: (profile) => (breaksThings(profile) ? 2 : 0), inject: serverClose },
  serverNotice: { weight: () => 1, inject: serverNotice },
  host: { weight: (profile) => (breaksThings(profile) ? 1 : 0), inject: breakHost },
  refuse: { weight: (profile) => (breaksThings(profile) ? 1 : 0), inject: refuseLogins },
  crash: { weight: (profile) => (breaksThings(profile) ? 0.5 : 0), inject: crash },
} as const satisfies Record<string, Fault>

export type FaultName = keyof typeof faults

export const faultNames = Object.keys(faults) as FaultName[]

/** Injects one random fault. */
export function injectFault(world: World): void {
  const weights = {} as Record<FaultName, number>
  for (const name of faultNames) weights[name] = faults[name].weight(world.profile)
  const name = world.random.weighted(weights)
  world.seen.add(`fault ${name}`)
  faults[name].inject(world)
}

function comeIn(world: World): void {
  if (world.clients.size < world.profile.clients || world.random.chance(0.1)) world.comeIn()
}

/** A client with a wrong password, or for a database that does not exist. */
function strayIn(world: World): void {
  world.comeIn(world.random.chance(0.5) ? { password: 'wrong' } : { pool: 'nowhere' })
}

function leave(world: World): void {
  world.anyClient()?.leave(world.random.pick(['terminate', 'close', 'reset', 'half', 'silence']))
}

/** A client stops reading, mostly for a while. */
function freeze(world: World): void {
  const client = world.anyClient()
  if (client === null) return
  world.trace(`${client.id} freezes`)
  client.freeze(true)
  if (world.random.chance(0.8)) world.schedule.after(world.random.next() * 3000, () => client.freeze(false))
}

function clientCut(world: World): void {
  const client = world.anyClient()
  if (client === null) return
  world.trace(`the connection of ${client.id} is cut`)
  client.wire.cut()
}

function anyServerSocket(world: World): SimSocket | null {
  const sockets = [...world.io.sockets].filter((socket) => !socket.accepted)
  return sockets.length === 0 ? null : world.random.pick(sockets)
}

function serverCut(world: World): void {
  const socket = anyServerSocket(world)
  if (socket === null) return
  world.trace(`the connection to ${socket.remote.host} from port ${socket.local.port} is cut`)
  world.hit.add(socket)
  socket.wire.cut()
}

function serverSilence(world: World): void {
  const socket = anyServerSocket(world)
  if (socket === null) return
  world.trace(`the connection to ${socket.remote.host} from port ${socket.local.port} goes silent`)
  world.hit.add(socket)
  socket.wire.silence(world.random.chance(0.5) ? Infinity : world.random.next() * 20_000)
}

/** Ends a session with a FATAL error, as an administrator or a timeout of PostgreSQL does. */
function serverTerminate(world: World): void {
  const server = world.random.pick(world.servers)
  const sessions = [...server.sessions].filter((session) => session.key !== null)
  if (sessions.length === 0) return
  const session = world.random.pick(sessions)
  world.hit.add(session)
  session.terminate(world.random.pick(['57P01', '25P03', '57P05']), 'terminating connection')
}

/** Closes a session without an error message. */
function serverClose(world: World): void {
  const sessions = [...world.random.pick(world.servers).sessions]
  if (sessions.length === 0) return
  const session = world.random.pick(sessions)
  world.hit.add(session)
  session.close()
}

/** A notice that answers no statement, as after a reload of the server. */
function serverNotice(world: World): void {
  const sessions = [...world.random.pick(world.servers).sessions].filter((session) => session.key !== null)
  if (sessions.length > 0) world.random.pick(sessions).notice()
}

function breakHost(world: World): void {
  const { random } = world
  const state: HostState = random.pick(['refusing', 'unreachable', 'silent'])
  const { host } = random.pick(world.servers).address
  const durationMs = random.next() * 20_000
  world.trace(`${host} is ${state} for ${durationMs} ms`)
  world.network.setHost(host, state)
  world.schedule.after(durationMs, () => world.network.setHost(host, 'up'))
  if (state !== 'silent') return
  for (const socket of world.io.sockets) {
    if (socket.accepted || socket.remote.host !== host) continue
    world.hit.add(socket)
    socket.wire.silence(random.chance(0.5) ? Infinity : durationMs)
  }
}

function refuseLogins(world: World): void {
  const server: Postgres = world.random.pick(world.servers)
  const code = world.random.pick(['53300', '57P03', '3D000', '28P01'])
  world.trace(`${server.address.host} refuses logins with ${code}`)
  server.refusal = { code, text: 'no login now' }
  world.refusals.add(code)
  world.schedule.after(world.random.next() * 5000, () => {
    server.refusal = null
  })
}

function crash(world: World): void {
  const server = world.random.pick(world.servers)
  world.trace(`${server.address.host} crashes`)
  for (const session of server.sessions) world.hit.add(session)
  server.crash()
}
