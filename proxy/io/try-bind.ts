import type { Address } from './io.ts'
import { IoError } from './io.ts'
import * as libc from './libc.ts'
import { socketAddressBytes, writeSocketAddress } from './socket-address.ts'

/** Whether a process could listen on this TCP address: null, or why it is not possible. It does not listen. */
export function bindFault(address: Address): string | null {
  const memory = libc.allocate(Math.max(socketAddressBytes, 4))
  let fd = -1
  try {
    const { family, length } = writeSocketAddress(address, memory)
    fd = libc.socket(family, libc.streamSocket, 0)
    if (fd < 0) throw libc.systemError('socket')
    const to = libc.allocate(4)
    to.bytes.writeInt32LE(1, 0)
    // Like a listener: connections of a former process do not count.
    libc.setsockopt(fd, libc.Level.Socket, libc.SocketOption.ReuseAddress, to.address, 4)
    if (libc.bind(fd, memory.address, length) < 0) throw libc.systemError('bind')
    return null
  } catch (error) {
    if (error instanceof IoError) return error.message
    throw error
  } finally {
    if (fd >= 0) libc.close(fd)
  }
}
