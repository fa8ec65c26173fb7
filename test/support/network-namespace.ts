/**
 * A host of its own for a test: a network namespace behind a veth pair, whose link can be cut like a cable: frames
 * vanish, and neither side is told.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { atEndOfFile } from './cleanup.ts'

const run = promisify(execFile)

/** A link-layer address of no host: frames sent there are dropped silently. */
const unusedMac = '02:00:00:00:00:99'

export class NetworkNamespace {
  readonly name: string
  /** Address of this machine's end, and of the namespace's. */
  readonly here: string
  readonly there: string
  readonly #link: string
  #macHere = ''
  #macThere = ''

  private constructor(number: number) {
    this.name = `flotilla-${number}`
    this.#link = `flo${number}`
    this.here = `10.213.${number % 250}.1`
    this.there = `10.213.${number % 250}.2`
  }

  /** Removed at the end of the test file. Returns the reason if the kernel or the user does not allow it. */
  static async make(): Promise<NetworkNamespace | string> {
    if (process.getuid?.() !== 0) return 'network namespaces need root'
    const made = new NetworkNamespace(process.pid % 32_000)
    try {
      await made.#make()
      return made
    } catch (error) {
      await made.remove()
      return `could not create a network namespace: ${error instanceof Error ? error.message.trim() : String(error)}`
    }
  }

  async #make(): Promise<void> {
    const { name, here, there } = this
    const link = this.#link
    await run('ip', ['netns', 'add', name])
    atEndOfFile(() => this.remove())
    await run('ip', ['link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name])
    await run('ip', ['address', 'add', `${here}/30`, 'dev', link])
    await run('ip', ['link', 'set', link, 'up'])
    await run('ip', ['-n', name, 'address', 'add', `${there}/30`, 'dev', 'eth0'])
    await run('ip', ['-n', name, 'link', 'set', 'eth0', 'up'])
    await run('ip', ['-n', name, 'link', 'set', 'lo', 'up'])
    this.#macHere = await macOf(['-j', 'link', 'show', link])
    this.#macThere = await macOf(['-n', name, '-j', 'link', 'show', 'eth0'])
    await this.mend()
  }

  /** From now on no frame arrives on either side. */
  async cut(): Promise<void> {
    await this.#neighbours(unusedMac, unusedMac)
  }

  async mend(): Promise<void> {
    await this.#neighbours(this.#macHere, this.#macThere)
  }

  /** Static neighbour entries, so that ARP does not reveal that the link is cut. */
  async #neighbours(macHere: string, macThere: string): Promise<void> {
    const entry = (address: string, mac: string, dev: string) => {
      return ['neighbour', 'replace', address, 'lladdr', mac, 'nud', 'permanent', 'dev', dev]
    }
    await run('ip', entry(this.there, macThere, this.#link))
    await run('ip', ['-n', this.name, ...entry(this.here, macHere, 'eth0')])
  }

  /** Bytes sent into the namespace that are not acknowledged. */
  async unacknowledgedBytes(): Promise<number> {
    const { stdout } = await run('ss', ['-Htn', 'dst', this.there])
    const lines = stdout.split('\n').filter((line) => line !== '')
    return lines.reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[2]), 0)
  }

  async remove(): Promise<void> {
    await run('ip', ['link', 'delete', this.#link]).catch(() => {})
    await run('ip', ['netns', 'delete', this.name]).catch(() => {})
  }
}

async function macOf(args: readonly string[]): Promise<string> {
  const { stdout } = await run('ip', [...args])
  const [link] = JSON.parse(stdout) as { address: string }[]
  if (link === undefined) throw new Error('the created link is missing')
  return link.address
}
