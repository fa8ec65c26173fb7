import { expect, test } from 'vitest'
import { commands } from '../../cli/commands.ts'
import { operationNames, operations, poolOperations } from '../../shared/operations.ts'

test.for(operationNames)('%s undoes only operations that exist, and not itself', (operation) => {
  const undone: readonly string[] = operations[operation].undoes

  expect(operationNames).toEqual(expect.arrayContaining([...undone]))
  expect(undone).not.toContain(operation)
})

test.for(poolOperations)('%s is a command of the CLI with its help', async (operation) => {
  const { help, load } = commands[operation]

  expect(help).toContain(operations[operation].help)
  expect((await load()).operands).toEqual(['POOL'])
})

test('operations of the console alone are no commands of the CLI', () => {
  const consoleOnly = operationNames.filter((name) => operations[name].remote === 'nowhere')

  expect(consoleOnly).toEqual(['wait_close', 'kill_client', 'suspend', 'shutdown'])
  expect(Object.keys(commands)).not.toEqual(expect.arrayContaining([expect.stringMatching(consoleOnly.join('|'))]))
})
