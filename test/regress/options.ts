import { parseArgs } from 'node:util'
import { WrongUsage } from '../../cli/failure.ts'

export const suites = ['regress', 'isolation'] as const
export type Suite = (typeof suites)[number]

/** What stands between the test programs and PostgreSQL, and its pool mode; `direct` is nothing. */
export const modes = ['direct', 'session', 'transaction', 'pgbouncer'] as const
export type Mode = (typeof modes)[number]

export interface Options {
  readonly suites: readonly Suite[]
  /** In the order of `modes`, so that the baseline comes first. */
  readonly modes: readonly Mode[]
  /** Files to run, with those that they depend on; empty for all. */
  readonly only: readonly string[]
}

export const usage = `usage: npm run test:regress -- [--suite regress,isolation] [--mode direct,session,transaction] [--only FILE,…]
       --mode pgbouncer is /usr/sbin/pgbouncer in transaction mode, to compare with`

/** @throws WrongUsage */
export function readOptions(args: readonly string[]): Options {
  const { suite, mode, only } = parse(args)
  return {
    suites: chosen('suite', suites, list(suite)),
    modes: chosen('mode', modes, list(mode)),
    only: list(only),
  }
}

function parse(args: readonly string[]): { suite: string; mode: string; only: string } {
  try {
    return parseArgs({
      args: [...args],
      options: {
        suite: { type: 'string', default: suites.join() },
        mode: { type: 'string', default: 'direct,session,transaction' },
        only: { type: 'string', default: '' },
      },
    }).values
  } catch (error) {
    throw new WrongUsage((error as Error).message)
  }
}

function list(text: string): string[] {
  return text.split(',').filter((name) => name !== '')
}

function chosen<Name extends string>(option: string, all: readonly Name[], names: readonly string[]): Name[] {
  const unknown = names.find((name) => !all.some((one) => one === name))
  if (unknown !== undefined) throw new WrongUsage(`--${option} ${unknown}: not one of ${all.join(', ')}`)
  return all.filter((one) => names.includes(one))
}
