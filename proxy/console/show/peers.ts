import { peerOpenMax } from '../../engine/cancel/peers.ts'
import { byKey, columns } from '../join.ts'
import { integers, texts } from '../table.ts'
import type { Table } from '../table.ts'

/** Proxies of the fleet that others can reach, including this one. Only cancel requests are forwarded between them. */
export const peers: Table = {
  columns: [...integers('peer_id'), ...texts('host'), ...integers('port', 'pool_size')],
  join: null,
  rows: ({ context }) => context.peers.known.map(({ number, address, port }) => [number, address, port, peerOpenMax]),
}

export const peerPools: Table = {
  columns: integers('peer_id', 'cl_active_cancel_req', 'cl_waiting_cancel_req', 'sv_active_cancel', 'sv_login'),
  join: byKey(1, columns(1, 4)),
  rows: ({ context }) =>
    context.peers.known.map((peer) => {
      const { open, waiting } = context.peers.gate(peer)
      return [peer.number, open, waiting, open, 0]
    }),
}
