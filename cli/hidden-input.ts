import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'

/**
 * Prompts for a line at the terminal without echo. Ctrl-D returns an empty line.
 * @throws AbortError if `signal` aborts. Ctrl-C calls `interrupt`, because the terminal sends no signal in raw mode.
 */
export async function readHidden(
  prompt: string,
  { signal, interrupt }: { signal: AbortSignal; interrupt: () => void },
): Promise<string> {
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output: nowhere, terminal: true, historySize: 0 })
  lines.on('SIGINT', interrupt)
  process.stderr.write(prompt)
  try {
    const closed = new Promise<string>((resolve) => lines.once('close', () => resolve('')))
    return await Promise.race([lines.question('', { signal }), closed])
  } finally {
    lines.close()
    process.stderr.write('\n')
  }
}
