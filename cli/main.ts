#!/usr/bin/env -S node --disable-sigusr1
/** The entry file of `flotilla`: finds and runs the command, and turns errors into messages and an exit code. */
import { text } from 'node:stream/consumers'
import { findCommand, commands } from './commands.ts'
import type { Surroundings } from './command.ts'
import { Failure, WrongUsage } from './failure.ts'
import { readHidden } from './hidden-input.ts'
import { usage, usageOf } from './usage.ts'

async function main(words: readonly string[], surroundings: Surroundings): Promise<number> {
  const { print, say } = surroundings
  if (words.length === 0 || words[0] === 'help' || words[0] === '--help' || words[0] === '-h') {
    print(usage())
    return words.length === 0 ? 2 : 0
  }
  const found = findCommand(words)
  if (found === undefined) {
    say(`flotilla: unknown command "${words.slice(0, 2).join(' ')}"\n\n${usage()}`)
    return 2
  }
  const command = await commands[found.name].load()
  if (found.rest.includes('--help') || found.rest.includes('-h')) {
    print(usageOf(found.name, command))
    return 0
  }
  try {
    return await command.run(found.rest, surroundings)
  } catch (error) {
    if (error instanceof WrongUsage) {
      say(`flotilla ${found.name}: ${error.message}\n\n${usageOf(found.name, command)}`)
      return 2
    }
    if (error instanceof Failure) {
      say(`flotilla ${found.name}: ${error.message}`)
      return 1
    }
    // Ctrl-C while waiting.
    if (surroundings.stop.aborted && (error as Error).name === 'AbortError') return 1
    throw error
  }
}

/** Under npm one Ctrl-C arrives twice: from the terminal, and forwarded by npm. */
const sameCtrlCMs = 500

const stopping = new AbortController()
const stoppingNow = new AbortController()
let firstAtMs = 0
const stop = () => {
  if (!stopping.signal.aborted) firstAtMs = performance.now()
  else if (performance.now() - firstAtMs > sameCtrlCMs) stoppingNow.abort()
  stopping.abort()
}
process.on('SIGINT', stop).on('SIGTERM', stop)
// Without a handler, and where Node was started without --disable-sigusr1, this signal opens a debugger.
process.on('SIGUSR1', () => undefined)

// A reader that stops early (`flotilla disconnects --follow | head -1`) ends the command, which is no error.
for (const output of [process.stdout, process.stderr]) {
  output.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    stopping.abort()
  })
}

// The parent, `flotilla start`, ended without stopping this process.
process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'))
process.channel?.unref()

process.exitCode = await main(process.argv.slice(2), {
  environment: process.env,
  print: (line) => process.stdout.write(`${line}\n`),
  say: (line) => process.stderr.write(`${line}\n`),
  readInput: () => text(process.stdin),
  readHidden: process.stdin.isTTY
    ? (prompt) => readHidden(prompt, { signal: stopping.signal, interrupt: stop })
    : undefined,
  stop: stopping.signal,
  stopNow: stoppingNow.signal,
})
