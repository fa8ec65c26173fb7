import type { Database } from './database.ts'

/** What `npm start` prints when everything is ready: how to connect, change, roll back and watch. */
export function welcome(facts: {
  readyMs: number
  dir: string
  version: number
  controlPort: number
  proxyPort: number
  database: Database
}): string {
  const { dir, version, controlPort, proxyPort, database } = facts
  const moved = controlPort === 8080 && dir === '.flotilla' ? '' : `FLOTILLA_URL=http://127.0.0.1:${controlPort} `
  const token = dir === '.flotilla' ? '' : `FLOTILLA_TOKEN=$(cat ${dir}/token) `
  const flotilla = `${moved}${token}npm run -s flotilla --`
  return `
Flotilla is ready after ${(facts.readyMs / 1000).toFixed(1)} s. Fleet demo runs v${version}; data is kept in ${dir}, logs too.

  PostgreSQL   ${database.host}:${database.port}, database ${database.database}
  control      http://127.0.0.1:${controlPort}
  proxies      127.0.0.1:${proxyPort} and 127.0.0.1:${proxyPort + 1}

connect     PGPASSWORD=app psql -h 127.0.0.1 -p ${proxyPort} -U app app
look        PGPASSWORD=admin psql -h 127.0.0.1 -p ${proxyPort} -U admin pgbouncer -c 'SHOW POOL_VERSIONS'
change      ${flotilla} show ${version} > app.toml, edit it, then
            ${flotilla} plan -f app.toml
            ${flotilla} apply -f app.toml --wait
roll back   ${flotilla} rollback ${version} --wait
watch       ${flotilla} proxies
            ${flotilla} versions
            ${flotilla} disconnects --follow

Ctrl-C stops everything.`
}
