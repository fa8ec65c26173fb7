import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { Authority, replaceCertificate } from '../../support/certificates.ts'
import type { Certificate } from '../../support/certificates.ts'
import { tempFolder } from '../../support/temp-folder.ts'
import { ScriptedAgent } from './scripted-agent.ts'

let authority: Authority

beforeAll(async () => {
  authority = await Authority.create()
})

interface Files {
  readonly cert: string
  readonly key: string
  readonly ca?: string
}

const toml = ({ cert, key, ca = authority.caFile }: Files): string => `
  [general]
  client_tls_sslmode = "require"
  client_tls_cert_file = "${cert}"
  client_tls_key_file = "${key}"
  [pools.app]
  servers = [{ host = "127.0.0.1", port = 5432 }]
  server_tls_sslmode = "verify-full"
  server_tls_ca_file = "${ca}"
  [pools.app.users.web]
  password = "a secret word"
`

function filesOf({ certFile, keyFile }: Certificate): Files {
  return { cert: certFile, key: keyFile }
}

async function newProxy(files: Files) {
  const path = join(await tempFolder(), 'flotilla.toml')
  await writeFile(path, toml(files))
  return { path, proxy: new ScriptedAgent({ source: { kind: 'file', path } }) }
}

test('the engine gets the content of the files, never their paths alone', async () => {
  const certificate = await authority.issue('localhost')
  const { proxy } = await newProxy(filesOf(certificate))

  await proxy.agent.start()

  const { spec } = await proxy.engine.gets('apply')
  expect(spec.clientTls).toMatchObject({ side: 'server', certificate: certificate.cert, key: certificate.key })
  expect(spec.pools[0]?.serverTls).toMatchObject({ side: 'client', ca: await authority.caPem(), certificate: null })
})

test('a file that is missing fails the apply with key, path and reason', async () => {
  const { cert, key } = filesOf(await authority.issue('localhost'))
  const { proxy } = await newProxy({ cert: '/nonexistent/cert.pem', key })
  const { proxy: other } = await newProxy({ cert, key, ca: key })

  await expect(proxy.agent.start()).rejects.toThrow(
    'client_tls_cert_file = "/nonexistent/cert.pem": could not be read: ENOENT',
  )
  await expect(other.agent.start()).rejects.toThrow(
    `pools.app.users.web: server_tls_ca_file = "${key}": could not use the CA certificate`,
  )
})

test('a key of another certificate fails the apply, and no content of a file is told', async () => {
  const { cert } = filesOf(await authority.issue('localhost'))
  const { key } = filesOf(await authority.issue('other'))
  const { proxy } = await newProxy({ cert, key })

  const refusal = await proxy.agent.start().then(String, String)

  expect(refusal).toContain(`client_tls_key_file = "${key}": could not use the private key: key values mismatch`)
  expect(refusal).not.toContain('BEGIN')
})

test('files that change are taken by themselves, once both of a pair are there', async () => {
  const certificate = await authority.issue('localhost')
  const renewed = await authority.issue('localhost')
  const { proxy } = await newProxy(filesOf(certificate))
  await proxy.agent.start()
  await proxy.engine.gets('apply')

  await replaceCertificate(certificate, renewed)

  const { update } = await proxy.engine.gets('tls')
  expect(update.clientTls).toMatchObject({ certificate: renewed.cert, key: renewed.key })
  expect(update.pools).toHaveLength(1)
})

test('a reload reads the files again, and says why they cannot be used', async () => {
  const certificate = await authority.issue('localhost')
  const renewed = await authority.issue('localhost')
  const { proxy } = await newProxy(filesOf(certificate))
  await proxy.agent.start()
  await proxy.engine.gets('apply')
  const half = `${certificate.certFile}.new`
  await writeFile(half, renewed.cert)
  await rename(half, certificate.certFile)

  const refusal = await proxy.agent.reload()
  await writeFile(certificate.keyFile, renewed.key)

  expect(refusal).toContain('key values mismatch')
  expect(await proxy.agent.reload()).toBeNull()
  const { update } = await proxy.engine.gets('tls')
  expect(update.clientTls).toMatchObject({ certificate: renewed.cert })
})
