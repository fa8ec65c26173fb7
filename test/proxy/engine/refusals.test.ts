import { expect, test } from 'vitest'
import type { FromEngine } from '../../../proxy/port.ts'
import { Refusals } from '../../../proxy/engine/refusals.ts'

const client = { database: 'app', user: 'web', from: { host: '10.0.0.7', port: 5000 } }

function newRefusals() {
  const said: FromEngine[] = []
  const refusals = new Refusals((message) => said.push(message))
  refusals.maintain(0)
  return { refusals, said }
}

test('who was refused and why is told to the log', () => {
  const { refusals, said } = newRefusals()

  refusals.client(client, '53300', 'query_wait_timeout')
  refusals.login({ database: null, user: null, from: { host: '/run/flotilla', port: 6432 } }, '08P01', 'what is this')

  expect(said).toEqual([
    {
      type: 'log',
      level: 'warn',
      message: 'client disconnected',
      fields: { database: 'app', user: 'web', client: '10.0.0.7', sqlstate: '53300', reason: 'query_wait_timeout' },
    },
    {
      type: 'log',
      level: 'warn',
      message: 'login rejected',
      fields: { database: null, user: null, client: 'unix', sqlstate: '08P01', reason: 'what is this' },
    },
  ])
})

test('of many in a short time some are told, of the others how many there were', () => {
  const { refusals, said } = newRefusals()

  for (let count = 0; count < 1000; count++) refusals.login(client, '28P01', 'password authentication failed')
  refusals.maintain(1000)
  const soon = said.length
  refusals.maintain(10_000)
  refusals.login(client, '28P01', 'password authentication failed')

  expect(soon).toBe(10)
  expect(said.slice(soon)).toMatchObject([
    { message: 'further logins rejected or clients disconnected', fields: { count: 990 } },
    { message: 'login rejected' },
  ])
})

test('a name of any length takes little room, and what an operator ends is told by who ended it', () => {
  const { refusals, said } = newRefusals()

  refusals.login({ ...client, user: 'u'.repeat(9000) }, '3D000', 'no such database')
  refusals.client(client, '57P01', 'terminating connection due to administrator command')

  expect(said).toMatchObject([{ fields: { user: 'u'.repeat(64) } }])
})
