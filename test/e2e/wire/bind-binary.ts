import { cstring, int32, message } from '../../support/frontend-messages.ts'

/** Binds the unnamed statement to the unnamed portal: parameters and results in binary format. */
export function bindBinary(...values: readonly Buffer[]): Buffer {
  const count = Buffer.alloc(2)
  count.writeUInt16BE(values.length)
  const parameters = Buffer.concat(values.flatMap((value) => [int32(value.length), value]))
  return message('B', cstring(''), cstring(''), oneBinary, count, parameters, oneBinary)
}

/** One format code for all: 1. */
const oneBinary = Buffer.from('00010001', 'hex')
