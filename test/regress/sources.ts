/**
 * PostgreSQL 15 and its own tests, both of one version, from Debian's packages. They are unpacked outside of the
 * checkout and not installed; what another installed version prints would differ from what the tests expect.
 */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, copyFile, glob, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { Failure } from '../../cli/failure.ts'
import { atEndOfFile } from '../support/cleanup.ts'
import type { Suite } from './options.ts'

const sourcePackage = 'postgresql-15'
/** The server, psql with the programs that run the tests, and what compiles the parts of the tests that are in C. */
const binaryPackages = ['postgresql-15', 'postgresql-client-15', 'postgresql-server-dev-15', 'libpq-dev', 'libpq5']

export interface Sources {
  readonly version: string
  /** `bin` and `lib` of PostgreSQL. */
  readonly native: string
  /** src/test, with the folders regress and isolation. */
  readonly tests: string
  /** What runs a suite. */
  readonly programs: Readonly<Record<Suite, string>>
  /** Shared libraries that the tests load. */
  readonly libraries: string
}

/**
 * The newest version of which Debian's mirror has everything. `folder` keeps it: a later run finds it there.
 * @throws Failure when a program is missing, or the packages cannot be had.
 */
export async function fetchSources(folder: string): Promise<Sources> {
  const unpacked = join(folder, sourcePackage)
  if (!existsSync(unpacked)) {
    const partial = await mkdtemp(join(folder, 'partial-'))
    atEndOfFile(() => rm(partial, { recursive: true, force: true }))
    await unpack(partial)
    await rename(partial, unpacked)
  }
  return {
    version: (await readFile(join(unpacked, 'version'), 'utf8')).trim(),
    native: nativeOf(unpacked),
    tests: join(unpacked, 'src/test'),
    programs: {
      regress: join(nativeOf(unpacked), 'lib/pgxs/src/test/regress/pg_regress'),
      isolation: join(testerOf(unpacked), 'pg_isolation_regress'),
    },
    libraries: librariesOf(unpacked),
  }
}

const nativeOf = (unpacked: string): string => join(unpacked, 'usr/lib/postgresql/15')
const testerOf = (unpacked: string): string => join(unpacked, 'tester')
const librariesOf = (unpacked: string): string => join(unpacked, 'libraries')

async function unpack(folder: string): Promise<void> {
  const apt = join(folder, 'apt')
  const version = await download(apt)
  for (const path of await found(join(apt, '*.deb'))) await run('dpkg-deb', ['--extract', path, folder])
  const [archive = ''] = await found(join(apt, '*.orig.tar.*'))
  await run('tar', ['--extract', `--file=${archive}`, `--directory=${folder}`, ...testsInArchive])
  await run(join(nativeOf(folder), 'bin/postgres'), ['--version'])
  await compileFunctions(folder)
  await compileTester(folder)
  await writeFile(join(folder, 'version'), `${version}\n`)
  await rm(apt, { recursive: true })
  await chmod(folder, 0o755) // for PostgreSQL's user
}

const testsInArchive = [
  '--strip-components=1',
  '--no-same-owner',
  '--no-same-permissions',
  '--wildcards',
  '*/src/test/regress',
  '*/src/test/isolation',
]

/** The functions in C that the tests call, beside two of PostgreSQL's that they look for in the same directory. */
async function compileFunctions(folder: string): Promise<void> {
  const libraries = librariesOf(folder)
  await mkdir(libraries)
  const [from, to] = [join(folder, 'src/test/regress/regress.c'), join(libraries, 'regress.so')]
  await run('gcc', ['-shared', '-fPIC', '-O1', ...includes(folder), '-o', to, from])
  for (const name of ['refint.so', 'autoinc.so']) {
    await copyFile(join(nativeOf(folder), 'lib', name), join(libraries, name))
  }
}

/**
 * isolationtester finds blocked sessions and senders of notifications by process ids. Through a proxy a client's is not
 * that of its server, so the tester is compiled with `changesOfTester`.
 */
async function compileTester(folder: string): Promise<void> {
  const [tester, sources] = [testerOf(folder), join(folder, 'src/test/isolation')]
  await mkdir(tester)
  const file = join(sources, 'isolationtester.c')
  const original = await readFile(file, 'utf8')
  const missing = changesOfTester.find(([text]) => !original.includes(text))
  if (missing !== undefined) throw new Failure(`${file} is not as expected: it has no ${missing[0]}`)
  const changed = changesOfTester.reduce((text, [from, to]) => text.replace(from, to), original)
  await writeFile(file, changed)
  await run('gcc', [
    '-O1',
    ...includes(folder),
    '-o',
    join(tester, 'isolationtester'),
    file,
    join(sources, 'specparse.c'),
    `-L${join(nativeOf(folder), 'lib')}`,
    ...(await found(join(folder, 'usr/lib/*-linux-*'))).map((path) => `-L${path}`),
    '-lpgfeutils',
    '-lpq',
    '-lpgcommon',
    '-lpgport',
  ])
  const name = 'pg_isolation_regress' // it looks for isolationtester beside itself
  await copyFile(join(nativeOf(folder), 'lib/pgxs/src/test/isolation', name), join(tester, name))
}

const changesOfTester = [
  [
    'PQbackendPID(conns[i].conn)',
    'atoi(PQgetvalue(PQexec(conns[i].conn, "SELECT pg_catalog.pg_backend_pid()"), 0, 0))',
  ],
  // A client's own notifications have its own id.
  ['if (notify->be_pid ==', 'if (notify->be_pid == PQbackendPID(conns[i + 1].conn) || notify->be_pid =='],
] as const

function includes(folder: string): string[] {
  const all = join(folder, 'usr/include/postgresql')
  return [join(all, '15/server'), all, join(all, 'internal')].flatMap((path) => ['-I', path])
}

/**
 * Downloads all packages into `folder`, with lists of its own: the machine's need not have source packages, and stay as
 * they are. Returns the version.
 */
async function download(folder: string): Promise<string> {
  const options = await ownLists(folder)
  await run('apt-get', [...options, 'update'])
  const refusals: string[] = []
  // A mirror may list a version whose files it does not have.
  for (const version of await versions(options)) {
    try {
      await run('apt-get', [...options, 'source', '--download-only', `${sourcePackage}=${version}`], folder)
      await run('apt-get', [...options, 'download', ...binaryPackages.map((name) => `${name}=${version}`)], folder)
      return version
    } catch (error) {
      refusals.push((error as Failure).message)
    }
  }
  throw new Failure([`Debian's package ${sourcePackage} and its sources cannot be had:`, ...refusals].join('\n'))
}

/** Options of apt for the repositories that the machine has, with their source packages. */
async function ownLists(folder: string): Promise<string[]> {
  const [parts, lists] = [join(folder, 'sources'), join(folder, 'lists')]
  await mkdir(parts, { recursive: true })
  await mkdir(join(lists, 'partial'), { recursive: true })
  for (const path of await found('/etc/apt/{sources.list,sources.list.d/*.list,sources.list.d/*.sources}')) {
    await writeFile(join(parts, basename(path)), withSources(path, await readFile(path, 'utf8')))
  }
  return [
    '--quiet',
    '--option=Dir::Etc::SourceList=/dev/null',
    `--option=Dir::Etc::SourceParts=${parts}`,
    `--option=Dir::State::Lists=${lists}`,
    `--option=Dir::Cache=${folder}`,
    '--option=APT::Sandbox::User=root',
  ]
}

function withSources(path: string, text: string): string {
  if (path.endsWith('.sources')) return text.replace(/^Types:.*$/gm, 'Types: deb deb-src')
  return text.replace(/^deb(\s.*)$/gm, 'deb$1\ndeb-src$1')
}

/** Those of the source package, newest first. */
async function versions(options: readonly string[]): Promise<string[]> {
  const quiet = options.filter((option) => option !== '--quiet')
  const text = await run('apt-cache', [...quiet, 'showsrc', '--only-source', sourcePackage])
  const all = Array.from(text.matchAll(/^Version: (.*)$/gm), ([, version = '']) => version)
  return all.toSorted((a, b) => b.localeCompare(a, 'en', { numeric: true }))
}

async function found(pattern: string): Promise<string[]> {
  const paths: string[] = []
  for await (const path of glob(pattern)) paths.push(path)
  return paths
}

/** Returns its standard output. @throws Failure with its standard error. */
async function run(program: string, args: readonly string[], cwd = tmpdir()): Promise<string> {
  try {
    return (await promisify(execFile)(program, args, { cwd, maxBuffer: 2 ** 26 })).stdout
  } catch (error) {
    const { code, stderr } = error as { code?: unknown; stderr?: string } // what execFile's promise rejects with
    if (code === 'ENOENT') throw new Failure(`${program} is not installed`)
    throw new Failure(`${program} ${args.at(-1)}: ${stderr?.trim() ?? String(error)}`)
  }
}
