import type { ToConsole } from '../port.ts'
import type { EngineDisconnect } from '../../shared/disconnect.ts'
import type { ConsoleUserSpec, FleetSpec } from '../spec.ts'
import type { Socket, SocketEvents } from '../io/io.ts'
import type { OperatorSession } from './pool/context.ts'
import type { Parameters } from './session/parameters.ts'

/** An operator whose login to the console is over. */
export interface OperatorLogin {
  readonly socket: Socket
  readonly id: number
  readonly user: string
  readonly parameters: Parameters
}

/** What the engine knows of a console: whom it hands operators to, and what it tells of itself. */
export interface EngineConsole {
  /** One of its users; undefined when there is none of that name. */
  find(user: string): ConsoleUserSpec | undefined
  /** Serves an operator from now on; `begin` greets it, once it has the socket's events. */
  open(login: OperatorLogin): OperatorSession & SocketEvents & { begin(): void }
  /** A version was applied; when it is the first one, clients that wait for it go on after this. */
  applied(spec: FleetSpec, isFirst: boolean): void
  /** A server connection was lost. */
  disconnected(disconnect: EngineDisconnect): void
  /** Called about once a second, before pools of which nothing is left are dropped. */
  observe(nowMs: number): void
  /** An operator has changed something that outlives this thread. */
  operated(): void
  /** A message that is not the engine's own. */
  receive(message: ToConsole): void
}
