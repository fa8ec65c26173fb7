import { expect, test } from 'vitest'
import { commands } from '../../cli/commands.ts'
import { operationNames, operations } from '../../shared/operations.ts'

test.for(operationNames)('%s undoes only operations that exist, and not itself', (operation) => {
  const undone: readonly string[] = operations[operation].undoes

  expect(operationNames).toEqual(expect.arrayContaining([...undone]))
  expect(undone).not.toContain(operation)
})

test.for(operationNames)('%s is a command of the CLI with its help', async (operation) => {
  const { help, load } = commands[operation]

  expect(help).toContain(operations[operation].help)
  expect((await load()).operands).toEqual(['POOL'])
})
