import type { ToConsole } from '../port.ts'
import type { EngineDisconnect } from '../../shared/disconnect.ts'
import type { ConsoleUserSpec, FleetSpec } from '../spec.ts'
import type { Socket, SocketEvents } from '../io/io.ts'
import type { OperatorSession } from './pool/context.ts'
import type { Parameters } from './session/parameters.ts'

/** An operator who has logged in to the console. */
export interface OperatorLogin {
  readonly socket: Socket
  readonly id: number
  readonly user: string
  readonly parameters: Parameters
}

/** The engine's interface to a console, which serves operators and is notified of events. */
export interface EngineConsole {
  /** A user of the console; undefined if there is none with this name. */
  find(user: string): ConsoleUserSpec | undefined
  /** Serves an operator; `begin` greets it, once it has the socket's events. */
  open(login: OperatorLogin): OperatorSession & SocketEvents & { begin(): void }
  /** A version was applied; if it is the first one, waiting logins continue after this. */
  applied(spec: FleetSpec, isFirst: boolean): void
  /** A server connection was lost. */
  disconnected(disconnect: EngineDisconnect): void
  /** Called about once a second, before abandoned pools are removed. */
  observe(nowMs: number): void
  /** Operators' state has changed. */
  operated(): void
  /** A message for the console. */
  receive(message: ToConsole): void
}
