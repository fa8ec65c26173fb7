import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

/** Edge cases of the protocol that a pooler is known to fail at; a test of each begins its title with the number. */
const cases: Readonly<Record<number, string>> = {
  // Startup
  1: 'SSLRequest where TLS is off',
  2: 'GSSENCRequest, then SSLRequest',
  3: 'requests for encryption without end',
  4: 'plaintext behind an SSLRequest',
  5: 'direct TLS from clients',
  6: 'direct TLS to servers',
  7: 'minor versions to come',
  8: 'unknown protocol options',
  9: 'cancel keys of protocol 3.2',
  10: 'major versions that are not 3',
  11: 'startup packets of impossible length',
  12: 'startup packets byte by byte, and without end',
  13: 'no user, no database',
  14: 'parameters in the startup packet',
  15: 'parameters that only the server knows',
  16: 'startup packets beyond 4 KB',
  17: 'probes of load balancers',
  // Authentication
  18: 'wrong passwords and unknown users look the same',
  19: 'any iterations, any characters',
  20: 'channel binding',
  21: 'SCRAM messages of wrong length',
  22: 'every way in with every way on',
  23: 'errors of a server after its AuthenticationOk',
  24: 'server logins of many packets',
  25: 'auth_query and what may go wrong in it',
  26: 'passwords that change under open sessions',
  27: 'passwords of kilobytes',
  28: 'user names in other encodings',
  // Simple query
  29: 'empty queries',
  30: 'transactions within one query',
  31: 'an error among several statements',
  32: 'failed transactions',
  33: 'notices and parameters between rows',
  34: 'statement mode and transactions',
  35: 'messages of hundreds of megabytes',
  36: 'messages cut anywhere',
  37: 'function calls',
  // Extended query
  38: 'pipelines with few Syncs',
  39: 'an error within a pipeline',
  40: 'an error before any Sync',
  41: 'Flush',
  42: 'the transaction of a pipeline',
  43: 'a simple query without Sync before it',
  44: 'unknown statements and portals',
  45: 'names that are taken',
  46: 'names whose Parse failed',
  47: 'Close of what is not there',
  48: 'Describe or Close alone',
  49: 'portals in turn',
  50: 'portals that are suspended',
  51: 'no other client between Execute and Sync',
  52: 'binary values, and 65,535 of them',
  53: 'one name, two texts',
  54: 'evictions with a Bind in flight',
  55: 'DEALLOCATE and DISCARD',
  56: 'plans that no longer fit',
  57: 'BEGIN and COMMIT by Parse',
  58: 'search paths that change under a statement',
  59: 'names and parameters beyond any buffer',
  60: 'clients that do not read',
  // COPY
  61: 'COPY IN and its ends',
  62: 'Sync and Flush within COPY IN',
  63: 'clients that die within COPY IN',
  64: 'COPY OUT: slow readers and cancels',
  65: 'replication connections',
  66: 'COPY among other statements',
  // What a session keeps
  67: 'SET',
  68: 'SET in a transaction',
  69: 'SET LOCAL',
  70: 'SET after a savepoint',
  71: 'set_config',
  72: 'RESET, roles and session authorization',
  73: 'tables, locks, cursors, channels and statements of a session',
  74: 'LISTEN and NOTIFY',
  75: 'ParameterStatus only for what changed',
  76: 'a promoted standby, another version',
  77: 'values that look like SQL',
  78: 'DISCARD ALL',
  79: 'a BEGIN that is answered before there is a server',
  // Cancel
  80: 'a running query',
  81: 'a client that waits',
  82: 'a client that asked nothing, and who has its server next',
  83: 'wrong keys',
  84: 'over TLS and Unix sockets',
  85: 'at another proxy',
  86: 'a thousand at once',
  87: 'to a server that is dead',
  // Failure and lifetime
  88: 'clients that die in a transaction',
  89: 'clients that die during a query',
  90: 'clients that die in line',
  91: 'Terminate with queries in flight',
  92: 'idle servers that are terminated',
  93: 'servers that end in a transaction',
  94: 'a crash between two queries',
  95: 'half a message of a server',
  96: 'hosts that fall silent',
  97: 'a server that was started anew without a word',
  98: 'names whose addresses change',
  99: 'servers that are full',
  100: 'limits of time that the server keeps',
  101: 'limits of time of our own, in the words that tools look for',
  102: 'what an idle server says',
  103: 'what an idle server must not say',
}

/** No test has the number, and why. */
const exceptions: Readonly<Record<number, string>> = {
  79: 'there is no such BEGIN: a transaction begins on a server',
}

/** "74: …" or "69, 70: …" at the beginning of a text, which in a test file is a title. */
const titleNumbers = /(?:^|[\s(])[`'"](\d{1,3}(?:, \d{1,3})*): /gm

function numbersInTitles(): Set<number> {
  const root = join(import.meta.dirname, '..')
  const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.test.ts'))
  const numbers = new Set<number>()
  for (const file of files) {
    const source = readFileSync(join(root, file), 'utf8')
    for (const [, list = ''] of source.matchAll(titleNumbers)) {
      for (const number of list.split(', ')) numbers.add(Number(number))
    }
  }
  return numbers
}

test('every edge case has a test that is named after it, or a reason', () => {
  const named = numbersInTitles()

  const missing = Object.keys(cases).filter((number) => !named.has(Number(number)) && !(Number(number) in exceptions))

  expect(missing).toEqual([])
})

test('no exception is left for an edge case that has its test', () => {
  const named = numbersInTitles()

  expect(Object.keys(exceptions).filter((number) => named.has(Number(number)))).toEqual([])
})
