import { parseArgs } from 'node:util'
import { WrongUsage } from '../cli/failure.ts'

export const protocols = ['simple', 'extended', 'prepared'] as const
export type Protocol = (typeof protocols)[number]

/** What poolers are compared over: how pgbench speaks, by TLS or not, and when a server goes back to the pool. */
export const cases = [
  { name: 'simple', protocol: 'simple', mode: 'transaction', tls: false },
  { name: 'extended', protocol: 'extended', mode: 'transaction', tls: false },
  { name: 'prepared', protocol: 'prepared', mode: 'transaction', tls: false },
  { name: 'prepared-session', protocol: 'prepared', mode: 'session', tls: false },
  { name: 'simple-tls', protocol: 'simple', mode: 'transaction', tls: true },
  { name: 'prepared-tls', protocol: 'prepared', mode: 'transaction', tls: true },
] as const satisfies readonly { name: string; protocol: Protocol; mode: string; tls: boolean }[]
export type Case = (typeof cases)[number]

export interface PoolerOptions {
  readonly rounds: number
  /** Length of one measurement. */
  readonly seconds: number
  readonly cases: readonly Case[]
  readonly clients: readonly number[]
  /** Clients that log in and wait; 0 leaves that part out. */
  readonly idleClients: number
  /** Arguments for the node that runs the proxy: --cpu-prof and the like. */
  readonly nodeArgs: readonly string[]
  /** The PgBouncer to compare with. */
  readonly pgbouncer: string
  /** Numbers of workers that the proxy runs with, each a contestant. */
  readonly workers: readonly number[]
  /** The proxy takes part once more, with `isolation = "strict"`. */
  readonly strict: boolean
  /** Other checkouts of this project, whose proxies take part: what a change costs. */
  readonly beside: readonly string[]
}

export interface ControlOptions {
  readonly proxies: number
  readonly seconds: number
}

export interface GarbageOptions {
  readonly cases: readonly Case[]
  /** Of each case, at least. */
  readonly transactions: number
}

export interface StatementOptions {
  readonly statements: number
  readonly rounds: number
  readonly pgbouncer: string
  readonly nodeArgs: readonly string[]
}

export type Options =
  | ({ readonly what: 'pooler' } & PoolerOptions)
  | ({ readonly what: 'control' } & ControlOptions)
  | ({ readonly what: 'garbage' } & GarbageOptions)
  | ({ readonly what: 'statements' } & StatementOptions)
  | { readonly what: 'engine' }

export const usage = `usage: npm run bench -- [pooler] [--rounds 5] [--seconds 4] [--clients 1,16,64]
                        [--only simple,extended,prepared,prepared-session,simple-tls,prepared-tls,memory]
                        [--idle-clients 2000] [--node-args "…"] [--pgbouncer /usr/sbin/pgbouncer] [--workers 1]
                        [--strict] [--beside CHECKOUT,…]
       npm run bench -- control [--proxies 1000] [--seconds 30]
       npm run bench -- engine
       npm run bench -- statements [--statements 5000] [--rounds 5] [--pgbouncer /usr/sbin/pgbouncer] [--node-args "…"]
       npm run bench -- garbage [--transactions 1000000] [--only …]`

/** @throws WrongUsage */
export function readOptions(args: readonly string[]): Options {
  const { values, positionals } = parse(args)
  const [what = 'pooler', ...more] = positionals
  if (more.length > 0) throw new WrongUsage(`one benchmark at a time, not also ${more.join(' ')}`)
  if (what === 'control') {
    return {
      what,
      proxies: count(values.proxies ?? '1000', 'proxies'),
      seconds: count(values.seconds ?? '30', 'seconds'),
    }
  }
  if (what === 'engine') return { what }
  const nodeArgs = values['node-args']?.split(' ').filter(Boolean) ?? []
  const pgbouncer = values.pgbouncer ?? '/usr/sbin/pgbouncer'
  const rounds = count(values.rounds ?? '5', 'rounds')
  if (what === 'statements') {
    return { what, statements: count(values.statements ?? '5000', 'statements'), rounds, pgbouncer, nodeArgs }
  }
  if (what !== 'pooler' && what !== 'garbage') throw new WrongUsage(`there is no benchmark "${what}"`)
  const only = values.only?.split(',')
  const unknown = only?.find((part) => part !== 'memory' && !cases.some(({ name }) => name === part))
  if (unknown !== undefined) throw new WrongUsage(`--only does not know "${unknown}"`)
  const wanted = (part: string): boolean => only === undefined || only.includes(part)
  const chosen = cases.filter(({ name }) => wanted(name))
  if (what === 'garbage') {
    return { what, cases: chosen, transactions: count(values.transactions ?? '1000000', 'transactions') }
  }
  return {
    what,
    rounds,
    seconds: count(values.seconds ?? '4', 'seconds'),
    cases: chosen,
    clients: (values.clients ?? '1,16,64').split(',').map((clients) => count(clients, 'clients')),
    idleClients: wanted('memory') ? count(values['idle-clients'] ?? '2000', 'idle-clients') : 0,
    nodeArgs,
    pgbouncer,
    workers: (values.workers ?? '1').split(',').map((workers) => count(workers, 'workers')),
    strict: values.strict ?? false,
    beside: values.beside?.split(',') ?? [],
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        rounds: { type: 'string' },
        seconds: { type: 'string' },
        clients: { type: 'string' },
        only: { type: 'string' },
        'idle-clients': { type: 'string' },
        'node-args': { type: 'string' },
        pgbouncer: { type: 'string' },
        workers: { type: 'string' },
        strict: { type: 'boolean' },
        beside: { type: 'string' },
        proxies: { type: 'string' },
        transactions: { type: 'string' },
        statements: { type: 'string' },
      },
    })
  } catch (error) {
    throw new WrongUsage(error instanceof Error ? error.message : String(error))
  }
}

function count(text: string, option: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new WrongUsage(`--${option} takes a whole number above 0`)
  return value
}
