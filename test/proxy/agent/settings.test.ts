import { expect, test } from 'vitest'
import { proxySettings, UsageError } from '../../../proxy/agent/settings.ts'

const read = (words: string[], environment: Record<string, string> = {}) => proxySettings(words, environment, '1.2.3')

test('words and environment together say where a proxy belongs', () => {
  const settings = read(['--control', 'http://control:8080', '--fleet', 'demo'], { FLOTILLA_PROXY_TOKEN: 'flp_x' })

  expect(settings.source).toEqual({
    kind: 'control',
    url: 'http://control:8080',
    fleet: 'demo',
    token: 'flp_x',
    stateFolder: 'flotilla-state',
    proxyId: null,
  })
  expect(settings.listen).toEqual({ host: null, port: null })
  expect(settings.http).toEqual({ host: '127.0.0.1', port: 9930 })
  expect(settings.hintUrl).toBeNull()
})

test('a word outranks its variable', () => {
  const settings = read(['--config', 'a.toml', '--listen-port', '7000'], { FLOTILLA_LISTEN_PORT: '8000' })

  expect(settings.listen.port).toBe(7000)
  expect(settings.source).toEqual({ kind: 'file', path: 'a.toml' })
})

test('a proxy that runs from a file has a state folder only where it is given one', () => {
  const { source } = read(['--config', 'a.toml', '--state', 'state'])

  expect(source).toEqual({ kind: 'file', path: 'a.toml', stateFolder: 'state' })
})

test('a word that says another way to run outranks the variable of the first', () => {
  expect(read(['--config', 'a.toml'], { FLOTILLA_CONTROL: 'http://control' }).source.kind).toBe('file')
})

test.each([
  [[], 'the source of the configuration is required'],
  [['--control', 'http://c', '--config', 'f'], 'use either --config or --control'],
  [['--control', 'c:8080', '--fleet', 'demo', '--token', 't'], '--control must be a URL'],
  [['--control', 'http://c'], '--fleet (or FLOTILLA_FLEET) is required'],
  [['--control', 'http://c', '--fleet', 'demo'], '--token (or FLOTILLA_PROXY_TOKEN) is required'],
  [['--control', 'http://c', '--fleet', 'a/b', '--token', 't'], '--fleet must consist of at most 63 letters'],
  [['--config', 'f', '--listen-port', '70000'], '--listen-port must be a port'],
  [['--config', 'f', '--hint-url', 'ftp://x'], '--hint-url must be a URL'],
  [['--config', 'f', '--listen-prot', '1'], '--listen-prot'],
  [['--config', 'f', '--takeover', `/${'t'.repeat(90)}`], '--takeover must be a path of at most 90 bytes'],
  [['--config', 'f', '--io-uring', 'on'], '--io-uring must be "auto" or "off"'],
  [['--config', 'f', '--http-token', 'short'], '--http-token must consist of at least 16 visible ASCII characters'],
  [
    ['--config', 'f', '--http-token', 'a token with spaces'],
    '--http-token must consist of at least 16 visible ASCII characters',
  ],
  [['--config', 'f', 'word'], 'word'],
])('%j is refused with the remedy', (words, message) => {
  expect(() => read(words)).toThrow(UsageError)
  expect(() => read(words)).toThrow(message)
})
