import { getTableConfig } from 'drizzle-orm/sqlite-core'
import { expect, test } from 'vitest'
import { readMigrations } from '../../../control/node/sqlite-store.ts'
import { openSqlite } from '../../../control/store/better-sqlite3.ts'
import { migrate } from '../../../control/store/migrate.ts'
import * as schema from '../../../control/store/schema.ts'
import { atEndOfFile } from '../../support/cleanup.ts'

test('the migrations make the very tables and columns that queries are written for', async () => {
  const port = openSqlite(':memory:')
  atEndOfFile(() => port.close())
  await migrate(port, readMigrations(), new Date())
  const names = await port.read({
    sql: "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
    params: [],
  })

  const made: Record<string, unknown> = {}
  for (const [name] of names) {
    const columns = await port.read({
      sql: `SELECT name, type, "notnull" OR pk FROM pragma_table_info('${String(name)}')`,
      params: [],
    })
    made[String(name)] = columns.map(
      ([column, type, notNull]) => `${String(column)} ${String(type)}${notNull === 1 ? ' NOT NULL' : ''}`,
    )
  }
  delete made['schema_migrations']

  const declared: Record<string, unknown> = {}
  for (const table of Object.values(schema)) {
    const { name, columns, primaryKeys } = getTableConfig(table)
    const keys = primaryKeys.flatMap((key) => key.columns.map((column) => column.name))
    declared[name] = columns.map((column) => {
      const notNull = column.notNull || column.primary || keys.includes(column.name)
      return `${column.name} ${column.getSQLType().toUpperCase()}${notNull ? ' NOT NULL' : ''}`
    })
  }
  expect(made).toEqual(declared)
})
