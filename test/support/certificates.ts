/** Certificates for tests, created with the openssl program: a CA and the certificates it issues. */
import { execFile } from 'node:child_process'
import { chmod, chown, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { postgresUser } from '../../cli/start/embedded-postgres.ts'
import { tempFolder } from './temp-folder.ts'

async function openssl(...lines: readonly (readonly string[])[]): Promise<void> {
  await promisify(execFile)('openssl', lines.flat())
}

export interface Certificate {
  readonly certFile: string
  readonly keyFile: string
  /** PEM. */
  readonly cert: string
  readonly key: string
}

export class Authority {
  readonly folder: string
  readonly caFile: string
  #issued = 0

  private constructor(folder: string) {
    this.folder = folder
    this.caFile = join(folder, 'ca.pem')
  }

  static async create(name = 'Test CA'): Promise<Authority> {
    const folder = await tempFolder()
    // PostgreSQL's own user reads the files.
    await chmod(folder, 0o755)
    const authority = new Authority(folder)
    const key = join(folder, 'ca-key.pem')
    await openssl(
      ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'],
      ['-keyout', key, '-out', authority.caFile, '-subj', `/CN=${name}`],
    )
    return authority
  }

  async caPem(): Promise<string> {
    return await readFile(this.caFile, 'utf8')
  }

  /** A certificate with the common name `commonName`, for `hosts` such as "DNS:localhost" and "IP:127.0.0.1". */
  async issue(commonName: string, hosts: readonly string[] = []): Promise<Certificate> {
    this.#issued++
    const path = (end: string): string => join(this.folder, `${this.#issued}-${end}`)
    const [certFile, keyFile, request, extensions] = [path('cert.pem'), path('key.pem'), path('csr'), path('ext')]
    await openssl(
      ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ['-keyout', keyFile, '-out', request, '-subj', `/CN=${commonName}`],
    )
    await writeFile(extensions, hosts.length === 0 ? '' : `subjectAltName=${hosts.join(',')}\n`)
    await openssl(
      ['x509', '-req', '-in', request, '-CA', this.caFile, '-CAkey', join(this.folder, 'ca-key.pem')],
      ['-CAcreateserial', '-days', '30', '-extfile', extensions, '-out', certFile],
    )
    await chmod(keyFile, 0o600)
    return {
      certFile,
      keyFile,
      cert: await readFile(certFile, 'utf8'),
      key: await readFile(keyFile, 'utf8'),
    }
  }

  /** Settings of a PostgreSQL with TLS and a certificate of this CA. */
  async postgresSettings(hosts: readonly string[], clientCa?: string): Promise<Record<string, string>> {
    const { certFile, keyFile } = await this.issue('postgres', hosts)
    const { uid, gid } = postgresUser()
    if (uid !== undefined && gid !== undefined) await chown(keyFile, uid, gid)
    const settings = { ssl: 'on', ssl_cert_file: certFile, ssl_key_file: keyFile }
    return clientCa === undefined ? settings : { ...settings, ssl_ca_file: clientCa }
  }
}

/** Replaces the certificate and key of `there`. */
export async function replaceCertificate(there: Certificate, by: Certificate): Promise<void> {
  await writeFile(there.certFile, by.cert)
  await writeFile(there.keyFile, by.key)
}
