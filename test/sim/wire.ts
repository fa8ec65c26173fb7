/**
 * Reads and writes PostgreSQL messages (manual, "Message Formats"), independent of the engine so that an error there is
 * not repeated here.
 */

export interface Message {
  /** One character: "Q", "Z" … */
  readonly tag: string
  readonly body: Buffer
}

/** Tag if there is one, then an Int32 length that counts itself, then the body. */
export function message(tag: string, ...parts: readonly (Buffer | string)[]): Buffer {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? cString(part) : part)))
  const head = Buffer.alloc(tag.length + 4)
  head.write(tag, 'latin1')
  head.writeInt32BE(body.length + 4, tag.length)
  return Buffer.concat([head, body])
}

export function cString(text: string): Buffer {
  return Buffer.from(`${text}\0`, 'utf8')
}

export function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

export function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

export function startupMessage(parameters: ReadonlyMap<string, string>): Buffer {
  const pairs = [...parameters].flatMap(([name, value]) => [cString(name), cString(value)])
  return message('', int32(196608), ...pairs, Buffer.alloc(1))
}

export const sslRequestCode = 80877103
export const cancelRequestCode = 80877102

export function cancelMessage(pid: number, secret: Buffer): Buffer {
  return message('', int32(cancelRequestCode), int32(pid), secret)
}

export function errorMessage(severity: string, code: string, text: string): Buffer {
  return message('E', `S${severity}`, `V${severity}`, `C${code}`, `M${text}`, Buffer.alloc(1))
}

export function noticeMessage(text: string): Buffer {
  return message('N', 'SNOTICE', 'VNOTICE', 'C00000', `M${text}`, Buffer.alloc(1))
}

/** Fields of an ErrorResponse by their letter. */
export function errorFields(body: Buffer): Map<string, string> {
  const fields = new Map<string, string>()
  for (const field of splitStrings(body)) if (field.length > 0) fields.set(field.slice(0, 1), field.slice(1))
  return fields
}

/** The null-terminated strings of a body. */
export function splitStrings(body: Buffer): string[] {
  return body.toString('utf8').split('\0').slice(0, -1)
}

/** Cuts a stream into messages. The startup packet, which has no tag, gets an empty one. */
export class Cutter {
  #bytes: Buffer = Buffer.alloc(0)
  #parts: Buffer[] = []
  #partBytes = 0
  #needed = 0

  push(bytes: Buffer): void {
    this.#parts.push(bytes)
    this.#partBytes += bytes.length
  }

  /** Bytes of an incomplete message. */
  get pending(): number {
    return this.#bytes.length + this.#partBytes
  }

  takeStartup(): Message | undefined {
    return this.#take(0)
  }

  take(): Message | undefined {
    return this.#take(1)
  }

  /** A byte outside any message: the answer to SSLRequest. */
  peekByte(): number | undefined {
    this.#join()
    return this.#bytes[0]
  }

  takeByte(): void {
    this.#bytes = this.#bytes.subarray(1)
  }

  #join(): void {
    if (this.#parts.length === 0) return
    this.#bytes = Buffer.concat([this.#bytes, ...this.#parts])
    this.#parts = []
    this.#partBytes = 0
  }

  #take(tagBytes: number): Message | undefined {
    if (this.pending < this.#needed) return undefined
    this.#join()
    const bytes = this.#bytes
    this.#needed = 0
    if (bytes.length < tagBytes + 4) return undefined
    const length = bytes.readInt32BE(tagBytes)
    if (length < 4) throw new Error(`a message of length ${length}`)
    if (bytes.length < tagBytes + length) {
      this.#needed = tagBytes + length
      return undefined
    }
    this.#bytes = bytes.subarray(tagBytes + length)
    return { tag: bytes.toString('latin1', 0, tagBytes), body: bytes.subarray(tagBytes + 4, tagBytes + length) }
  }
}
