import type { Cause } from '../../../shared/causes.ts'
import type { CloseCause } from '../../io/io.ts'

/** Why a server is lost whose socket has ended. */
export function causeOf(cause: CloseCause, loggedIn: boolean): Cause {
  switch (cause.kind) {
    case 'eof':
      return 'closed'
    case 'reset':
    case 'error':
      return 'reset'
    case 'refused':
      return 'connect_refused'
    case 'unreachable':
      return 'unreachable'
    case 'keepalive':
      return loggedIn ? 'keepalive_timeout' : 'connect_timeout'
    case 'unacked':
      return loggedIn ? 'user_timeout' : 'connect_timeout'
    case 'tls':
      return 'tls_failed'
    default:
      return cause.kind satisfies never
  }
}
