import { resolve } from 'node:path'
import type { Database } from './database.ts'

/** Printed by `npm start` when everything is ready: how to connect, change, roll back and observe. */
export function welcome(facts: {
  readyMs: number
  dir: string
  /** False if the operator's token came from the environment. */
  tokenIsKept: boolean
  version: number
  controlPort: number
  proxyPort: number
  database: Database
}): string {
  const { dir, version, controlPort, proxyPort, database } = facts
  return `
Flotilla is ready after ${(facts.readyMs / 1000).toFixed(1)} s. Fleet demo is at v${version}; data and logs are in ${dir}.

  PostgreSQL   ${database.host}:${database.port}, database ${database.database}
  control      http://127.0.0.1:${controlPort}
  proxies      127.0.0.1:${proxyPort} and 127.0.0.1:${proxyPort + 1}

In another terminal:${exports(facts)}

  connect     PGPASSWORD=app psql -h 127.0.0.1 -p ${proxyPort} -U app app
  inspect     PGPASSWORD=admin psql -h 127.0.0.1 -p ${proxyPort} -U admin pgbouncer -c 'SHOW POOL_VERSIONS'
  change      npm run -s flotilla -- show ${version} > app.toml      then edit app.toml, and
              npm run -s flotilla -- plan -f app.toml
              npm run -s flotilla -- apply -f app.toml --wait
  roll back   npm run -s flotilla -- rollback ${version} --wait
  observe     npm run -s flotilla -- proxies                (or versions, or disconnects --follow)

Ctrl-C stops everything.`
}

/** Variables that the command line needs when the defaults do not apply. */
function exports({
  dir,
  tokenIsKept,
  controlPort,
}: {
  dir: string
  tokenIsKept: boolean
  controlPort: number
}): string {
  const lines = []
  if (controlPort !== 8080) lines.push(`export FLOTILLA_URL=http://127.0.0.1:${controlPort}`)
  if (tokenIsKept && dir !== '.flotilla') lines.push(`export FLOTILLA_TOKEN=$(cat '${resolve(dir, 'token')}')`)
  if (!tokenIsKept) lines.push('export FLOTILLA_TOKEN=…      the token given to this start')
  return lines.length === 0 ? '' : `\n\n  ${lines.join('\n  ')}`
}
