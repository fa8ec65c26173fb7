import type { Shape } from './command.ts'
import { commands } from './commands.ts'
import type { CommandName } from './commands.ts'

const names = Object.keys(commands) as CommandName[]
const widest = Math.max(...names.map((name) => name.length))

/** All commands, one line each. */
export function usage(): string {
  return [
    'usage: flotilla COMMAND [OPTIONS]',
    '',
    ...names.map((name) => `  ${name.padEnd(widest)}  ${commands[name].help}`),
    '',
    '`flotilla COMMAND --help` shows details. Exit codes: 0 success, 1 rejected or failed on a proxy, 2 usage error.',
  ].join('\n')
}

/** Usage of one command. */
export function usageOf(name: CommandName, { operands, options }: Shape): string {
  const lines = Object.entries(options).map(([option, { short, type, value, help }]) => {
    const spelling = `${short === undefined ? '    ' : `-${short}, `}--${option}`
    return { spelling: type === 'string' ? `${spelling} ${value ?? 'TEXT'}` : spelling, help }
  })
  const width = Math.max(0, ...lines.map(({ spelling }) => spelling.length))
  return [
    `usage: flotilla ${[name, ...operands].join(' ')}${lines.length === 0 ? '' : ' [OPTIONS]'}`,
    '',
    commands[name].help,
    ...(lines.length === 0 ? [] : ['', ...lines.map(({ spelling, help }) => `  ${spelling.padEnd(width)}  ${help}`)]),
  ].join('\n')
}
