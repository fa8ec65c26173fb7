import { defineConfig } from 'oxlint'
import type { DummyRuleMap } from 'oxlint'

interface Direction {
  readonly files: readonly string[]
  /** What the files may import of this project and of packages, for the reader of a report. */
  readonly says: string
  /** Patterns as in a .gitignore, matched against the text of the import; a later "!" takes back. */
  readonly refuses: readonly string[]
  /** Modules of which only the types may be imported. */
  readonly typesOnly?: readonly string[]
}

const above = {
  shared: ['**/control/**', '**/proxy/**', '**/cli/**', '**/test/**', '**/bench/**'],
  control: ['**/proxy/**', '**/cli/**', '**/test/**', '**/bench/**'],
  proxy: ['**/control/**', '**/cli/**', '**/test/**', '**/bench/**'],
}
const servers = ['hono', 'hono/**', '@hono/**']
const databases = ['drizzle-orm', 'drizzle-orm/**', 'better-sqlite3', '@libsql/**']

/** What neither an engine nor its console imports. */
const outsideEngine = [
  ...servers,
  ...databases,
  'zod',
  'koffi',
  'undici',
  '**/agent/**',
  '**/io/**',
  '!**/io/io.ts',
  '!**/io/copy.ts',
]
const inEngine = [...above.proxy, ...outsideEngine, '**/console/**']
/** Modules with zod, of which an engine may have the types. */
const schemas = ['**/shared/wire.ts', '**/shared/disconnect.ts']
const engineFolders = (...names: readonly string[]): string[] => names.map((name) => `../${name}/**`)

/**
 * Import directions. Where two lines match a file, only the later one applies, so a line for a narrower folder repeats
 * what still holds.
 */
const directions: readonly Direction[] = [
  {
    files: ['shared/**'],
    says: 'shared imports only shared',
    refuses: [...above.shared, ...servers, ...databases],
  },
  {
    files: ['control/**'],
    says: 'control imports only control and shared; SQL stands in control/store',
    refuses: [...above.control, ...databases],
  },
  {
    files: ['control/store/**'],
    says: 'control/store imports only control and shared',
    refuses: [...above.control, ...servers],
  },
  {
    files: ['proxy/**'],
    says: 'proxy imports only proxy and shared',
    refuses: [...above.proxy, ...servers, ...databases],
  },
  {
    files: ['proxy/*.ts', 'proxy/memory/**'],
    says: 'what agent and engine have in common imports neither of them',
    refuses: [...above.proxy, ...servers, ...databases, '**/agent/**', '**/engine/**', '**/console/**'],
  },
  {
    files: ['proxy/main.ts'],
    says: 'the process starts an agent; it knows no engine',
    refuses: [...above.proxy, ...servers, ...databases, '**/engine/**', '**/console/**'],
  },
  {
    files: ['proxy/agent/**'],
    says: 'the agent knows no engine and no console, only what passes between them: port.ts, spec.ts, snapshot.ts …',
    refuses: [...above.proxy, ...servers, ...databases, '**/engine/**', '**/console/**'],
  },
  {
    files: ['proxy/agent/restart/**'],
    says: 'an online restart is a part of the agent, which wires it; it knows no engine',
    refuses: [
      ...above.proxy,
      ...servers,
      ...databases,
      '**/engine/**',
      '**/console/**',
      ...['agent', 'applier', 'sync', 'supervisor', 'workers'].map((file) => `../${file}.ts`),
    ],
  },
  {
    files: ['proxy/console/**'],
    says: 'the console sees the engine and io/io.ts: no sockets, no zod at run time, no agent',
    refuses: [...above.proxy, ...outsideEngine],
    typesOnly: schemas,
  },
  {
    files: ['proxy/engine/**'],
    says: 'the engine sees io/io.ts, io/copy.ts, protocol and shared: no sockets, no zod at run time, no agent, no console',
    refuses: inEngine,
    typesOnly: schemas,
  },
  {
    files: ['proxy/engine/pool/**'],
    says: 'pools know of the engine only what it is made of: auth, cancel, session, wire, workers',
    refuses: [...inEngine, '../*.ts', '!../refusals.ts'],
    typesOnly: schemas,
  },
  {
    files: ['proxy/engine/session/**'],
    says: 'what is known of a session imports only itself, wire, protocol and shared',
    refuses: [...inEngine, '../*.ts', ...engineFolders('pool', 'auth', 'cancel', 'workers')],
    typesOnly: schemas,
  },
  {
    files: ['proxy/engine/wire/**'],
    says: 'wire imports only itself, protocol, shared and io/io.ts',
    refuses: [...inEngine, '../*.ts', ...engineFolders('pool', 'session', 'auth', 'cancel', 'workers')],
    typesOnly: schemas,
  },
  {
    files: ['proxy/engine/workers/**'],
    says: 'what workers share imports only itself, memory and the target of a server',
    refuses: [
      ...inEngine,
      '../*.ts',
      ...engineFolders('pool', 'session', 'auth', 'cancel', 'wire'),
      '!../pool/target.ts',
    ],
    typesOnly: schemas,
  },
  {
    files: ['proxy/engine/cancel/**'],
    says: 'cancel requests know no pools: they are for what can be canceled',
    refuses: [...inEngine, '../*.ts', ...engineFolders('pool', 'session', 'auth', 'workers')],
    typesOnly: schemas,
  },
  {
    files: ['proxy/engine/auth/**'],
    says: 'logins know no pools but the target of a server',
    refuses: [...inEngine, '../*.ts', ...engineFolders('pool'), '!../pool/target.ts'],
    typesOnly: schemas,
  },
  {
    files: ['proxy/engine/main.ts'],
    says: 'the engine thread chooses an Io and a console; it knows no agent and no control',
    refuses: [...above.proxy, ...servers, ...databases, 'zod', 'undici', '**/agent/**'],
    typesOnly: schemas,
  },
  {
    files: ['proxy/protocol/**'],
    says: 'protocol imports only itself and shared/errors',
    refuses: ['**', '!./**', '!../../shared/errors.ts'],
  },
  {
    files: ['proxy/io/**'],
    says: 'io imports only itself, node and koffi',
    refuses: ['**', '!./**', '!node:*', '!koffi', '!../../shared/errors.ts'],
  },
  {
    files: ['cli/**'],
    says: 'cli imports only cli and shared; a few commands start or open what they name',
    refuses: ['**/control/**', '**/proxy/**', '**/test/**', '**/bench/**', ...servers, ...databases],
  },
  {
    files: ['cli/commands/control.ts', 'cli/commands/epoch-raise.ts', 'cli/commands/proxy.ts'],
    says: 'a command that starts or opens a half of Flotilla imports only its entry, cli and shared',
    refuses: [
      '**/control/**',
      '**/proxy/**',
      '**/test/**',
      '**/bench/**',
      ...servers,
      ...databases,
      '!**/control/node.ts',
      '!**/proxy/main.ts',
    ],
  },
]

/**
 * Files that may form a circle of imports, at most 8: a pool, its server sets, servers and clients, with what passes between
 * them, are one state machine, in which each end knows the other.
 */
const stateMachine = ['client', 'context', 'pool', 'replies', 'requests', 'server', 'server-set', 'server-source']

/** The environment is read in entry files and handed on as arguments. */
const entries = [
  'cli/main.ts',
  'proxy/main.ts',
  'control/node.ts',
  'test/support/**',
  'bench/**',
  'test/drivers/with-*.ts',
]

type Refusal = NonNullable<DummyRuleMap['no-restricted-imports']>

function refusal(message: string, refuses: readonly string[], typesOnly: readonly string[]): Refusal {
  const patterns = [{ group: [...refuses], message }]
  if (typesOnly.length === 0) return ['error', { patterns }]
  return ['error', { patterns: [...patterns, { group: [...typesOnly], message, allowTypeImports: true }] }]
}

export default defineConfig({
  plugins: ['eslint', 'typescript', 'unicorn', 'oxc', 'import', 'promise', 'node', 'vitest'],
  categories: { correctness: 'error', suspicious: 'error' },
  ignorePatterns: ['coverage/**'],
  rules: {
    'typescript/no-unsafe-type-assertion': 'off', // a cast carries its reason, which a reviewer reads
    'no-shadow': 'off',
    'no-await-in-loop': 'off',
    'unicorn/consistent-function-scoping': 'off',
    'unicorn/no-array-sort': 'off',
    'import/no-unassigned-import': 'off',
    'vitest/expect-expect': ['error', { assertFunctionNames: ['expect*', 'assert*', 'fc.assert'] }],
    eqeqeq: 'error',
    'no-var': 'error',
    'prefer-const': 'error',
    'no-console': 'error',
    'import/no-cycle': 'error',
    'import/no-default-export': 'error',
    'node/no-process-env': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/consistent-type-imports': 'error',
    'typescript/no-misused-promises': 'error',
    'typescript/only-throw-error': 'error',
    'typescript/prefer-promise-reject-errors': 'error',
    'typescript/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
  },
  overrides: [
    ...directions.map(({ files, says, refuses, typesOnly = [] }) => ({
      files: [...files],
      rules: { 'no-restricted-imports': refusal(says, refuses, typesOnly) },
    })),
    { files: stateMachine.map((name) => `proxy/engine/pool/${name}.ts`), rules: { 'import/no-cycle': 'off' } },
    // The simulator's world, checker and faults know each other's types.
    { files: ['test/sim/**'], rules: { 'import/no-cycle': ['error', { ignoreTypes: true }] } },
    { files: entries, rules: { 'node/no-process-env': 'off' } },
    { files: ['cli/**', 'test/**', 'bench/**'], rules: { 'no-console': 'off' } },
    { files: ['test/support/fixtures/**'], rules: { 'vitest/expect-expect': 'off' } },
    { files: ['**/*.config.ts'], rules: { 'import/no-default-export': 'off' } },
  ],
})
