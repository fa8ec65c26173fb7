import { expect, test } from 'vitest'
import { setTimeout as after } from 'node:timers/promises'
import { freePort } from '../../support/free-port.ts'
import { startControl } from '../../support/processes.ts'
import type { ControlProcess } from '../../support/processes.ts'
import { fleet } from './world.ts'

const kills = 50
/** When the first kill falls; later ones feel their way to the moment between write and answer. */
const firstDelayMs = 10
const later = 1.2
const earlier = 0.8

/** Large enough that writing it takes a while; which number it has is in every pool. */
function document(index: number): object {
  const pools = Object.fromEntries(
    Array.from({ length: 40 }, (_, pool) => [
      `app_${pool}`,
      {
        servers: [{ host: '127.0.0.1', port: 5432, role: 'primary' }],
        users: { app: { auth_type: 'trust', pool_size: index + 1 } },
      },
    ]),
  )
  return { pools }
}

interface Version {
  readonly version: number
  readonly content_hash: string
}

async function versionsOf(control: ControlProcess): Promise<Version[]> {
  const all: Version[] = []
  for (let path: string | null = `/v1/fleets/${fleet}/versions`; path !== null;) {
    const { status, body } = await control.call('GET', path)
    expect(status).toBe(200)
    const page = body as { versions: Version[]; next: string | null }
    all.push(...page.versions)
    path = page.next === null ? null : `/v1/fleets/${fleet}/versions?cursor=${encodeURIComponent(page.next)}`
  }
  return all.toReversed()
}

/** The document that the fleet has now; empty before the first. */
async function latest(control: ControlProcess): Promise<object> {
  const { status, body } = await control.call('GET', `/v1/fleets/${fleet}/config`)
  return status === 404 ? {} : (body as object)
}

test('killed between write and answer fifty times, control has every version whole or not at all, and none has changed', async () => {
  const port = await freePort()
  let control = await startControl({ port })
  const { folder, token } = control
  await control.call('PUT', `/v1/fleets/${fleet}`)
  let known: Version[] = []
  let answered = 0
  let survived = 0
  let delayMs = firstDelayMs

  for (let index = 0; index < kills; index++) {
    const write = control
      .call('PUT', `/v1/fleets/${fleet}/config`, document(index), { 'if-match': `"v${known.length}"` })
      .then(({ status }) => status)
      .catch(() => null)
    await after(delayMs)
    await control.kill9()
    const status = await write
    control = await startControl({ port, folder, token })

    const versions = await versionsOf(control)
    // What was there has not changed; what came is whole, and is there if the answer said so.
    const came = versions.length - known.length
    expect(versions.slice(0, known.length)).toEqual(known)
    expect([status === 201 ? 1 : 0, 1]).toContain(came)
    expect(await latest(control)).toMatchObject(came === 1 ? document(index) : {})
    answered += status === 201 ? 1 : 0
    survived += came
    if (status === 201) delayMs *= earlier
    else if (versions.length === known.length) delayMs *= later
    known = versions
  }

  console.log(`${kills} kills: ${survived} versions were written, ${answered} of them answered`)
  expect(known.map((version) => version.version)).toEqual(known.map((_, index) => index + 1))
  // A test that always killed before, or always after, would show nothing.
  expect(survived).toBeGreaterThan(0)
  expect(survived).toBeLessThan(kills)
}, 240_000)
