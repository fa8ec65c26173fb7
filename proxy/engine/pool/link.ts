/**
 * A link: a client and a server joined until the transaction ends (session mode: until the client leaves). requests.ts
 * is what passes in one direction, replies.ts in the other.
 *
 * Short messages are forwarded whole, so that an error of our own never lands inside one; a long one passes in pieces
 * as it arrives, so that it costs one read buffer whatever its size.
 */

/** Messages up to this length are forwarded whole. */
export const wholeBytesMax = 16_384
