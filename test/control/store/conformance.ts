/** What every driver of the port must do; each driver's test file runs these with its own way to open a database. */
import { expect, test } from 'vitest'
import { readMigrations } from '../../../control/node/sqlite-store.ts'
import { migrate } from '../../../control/store/migrate.ts'
import { AlreadyThere, GuardFailed, StoreUnusable } from '../../../control/store/port.ts'
import type { SqlPort, SqlValue, Statement } from '../../../control/store/port.ts'

/** Those of the first migration. */
const versionColumns =
  'versions (fleet, version, created_at, message, rollback_of, content_hash, document, manifest, manifest_hash, pools)'
const now = new Date('2026-11-23T19:00:00Z')

/** `open` opens the same database each time it is called with the same name. */
export function storePortConforms(open: (name: string) => Promise<SqlPort>): void {
  const fresh = async (name: string): Promise<SqlPort> => {
    const port = await open(name)
    await port.write([statement('CREATE TABLE things (id INTEGER PRIMARY KEY, value ANY) STRICT')])
    return port
  }
  const migrated = async (name: string): Promise<SqlPort> => {
    const port = await open(name)
    await migrate(port, readMigrations(), now)
    return port
  }

  test('a write that fails half-way leaves nothing behind', async () => {
    const port = await fresh('half')

    const writing = port.write([insert(1, 'a'), insert(2, 'b'), insert(1, 'c')])

    await expect(writing).rejects.toBeInstanceOf(AlreadyThere)
    expect(await port.read(statement('SELECT * FROM things'))).toEqual([])
  })

  test('a guard that does not hold fails the whole write, and leaves no row of its own when it does', async () => {
    const port = await migrated('guard')
    const guard = (condition: string): Statement =>
      statement(`INSERT INTO guards (ok) SELECT 0 WHERE NOT (${condition})`)
    const rise = statement('UPDATE control SET epoch = epoch + 1')

    await expect(port.write([rise, guard('(SELECT epoch FROM control) = 1')])).rejects.toBeInstanceOf(GuardFailed)
    await port.write([guard('(SELECT epoch FROM control) = 1'), rise])

    expect(await port.read(statement('SELECT epoch FROM control'))).toEqual([[2]])
    expect(await port.read(statement('SELECT count(*) FROM guards'))).toEqual([[0]])
  })

  test('a write gives the number of rows that each statement changed', async () => {
    const port = await fresh('changes')

    const changed = await port.write([
      insert(1, 'a'),
      insert(2, 'b'),
      statement("UPDATE things SET value = 'x'"),
      statement('DELETE FROM things WHERE id = 9'),
    ])

    expect(changed).toEqual([1, 1, 2, 0])
  })

  test('values come back as they went in', async () => {
    const port = await fresh('values')
    const values: SqlValue[] = [
      0,
      -1,
      Number.MAX_SAFE_INTEGER,
      0.5,
      '',
      'Ωß\u{1F418}',
      null,
      'a\u0000b',
      'x'.repeat(2_000_000),
    ]

    await port.write(values.map((value, id) => insert(id, value)))

    const rows = await port.read(statement('SELECT value FROM things ORDER BY id'))
    expect(rows).toEqual(values.map((value) => [value]))
  })

  test('a hundred parameters fit one statement', async () => {
    const port = await fresh('parameters')
    const params = Array.from({ length: 100 }, (_, index) => index)

    const rows = await port.read(statement(`SELECT ${params.map(() => '?').join(' + ')}`, params))

    expect(rows).toEqual([[4950]])
  })

  test('of writers that guard the same number exactly one wins each time', async () => {
    const ports = [await migrated('racing'), await open('racing'), await open('racing')]
    const raise = async (port: SqlPort): Promise<'won' | 'lost'> => {
      const [[epoch]] = (await port.read(statement('SELECT epoch FROM control'))) as [[number]]
      try {
        await port.write([
          statement('INSERT INTO guards (ok) SELECT 0 WHERE NOT ((SELECT epoch FROM control) = ?)', [epoch]),
          statement('UPDATE control SET epoch = epoch + 1'),
        ])
        return 'won'
      } catch (error) {
        if (!(error instanceof GuardFailed)) throw error
        return 'lost'
      }
    }

    const outcomes: string[] = []
    for (let round = 0; round < 20; round += 1) outcomes.push(...(await Promise.all(ports.map(raise))))

    const wins = outcomes.filter((outcome) => outcome === 'won').length
    expect(await ports[0]!.read(statement('SELECT epoch FROM control'))).toEqual([[1 + wins]])
    expect(wins).toBeGreaterThanOrEqual(20)
  })

  test('the content of a version, a pool body and a secret can neither change nor go', async () => {
    const port = await migrated('immutable')
    await port.write([
      statement("INSERT INTO fleets (name, created_at, poll_interval_ms) VALUES ('f', 'now', 5000)"),
      statement(`INSERT INTO ${versionColumns} VALUES ('f', 1, 'now', NULL, NULL, 'h', '{}', '', 'm', 0)`),
      statement("INSERT INTO pool_bodies VALUES ('f', 'h', '{}')"),
      statement("INSERT INTO secrets VALUES ('f', 's', 1, 'now', 'plain', 'x', 'd', NULL)"),
    ])
    const before = await contents(port)

    for (const sql of [
      "UPDATE versions SET document = 'other'",
      "UPDATE versions SET message = 'other'",
      'DELETE FROM versions',
      `INSERT OR REPLACE INTO ${versionColumns} VALUES ('f', 1, 'now', NULL, NULL, 'h', 'other', '', 'm', 0)`,
      "INSERT OR REPLACE INTO pool_bodies VALUES ('f', 'h', 'other')",
      "INSERT OR REPLACE INTO secrets VALUES ('f', 's', 1, 'now', 'plain', 'other', 'd', NULL)",
      "UPDATE pool_bodies SET body = 'other'",
      'DELETE FROM pool_bodies',
      "UPDATE secrets SET sealed = 'other'",
      'DELETE FROM secrets',
    ]) {
      await expect(port.write([statement(sql)])).rejects.toThrow(/never|exists/)
    }

    expect(await contents(port)).toEqual(before)
  })

  test('what was written is there when the database is opened again', async () => {
    const port = await fresh('again')
    await port.write([insert(1, 'a')])
    await port.close()

    const again = await open('again')

    expect(await again.read(statement('SELECT value FROM things'))).toEqual([['a']])
  })

  test('migrations run once, and one that was merged late is not passed over', async () => {
    const port = await open('late')
    const [one, two, three] = ['0001_a', '0002_b', '0003_c'].map((id) => ({
      id,
      sql: `CREATE TABLE t${id} (x INTEGER)`,
    }))

    await migrate(port, [one!, three!], now)
    await migrate(port, [one!, two!, three!], now)
    await migrate(port, [one!, two!, three!], now)

    expect(await port.read(statement('SELECT id FROM schema_migrations ORDER BY id'))).toEqual([
      ['0001_a'],
      ['0002_b'],
      ['0003_c'],
    ])
  })

  test('a migration that fails leaves nothing of itself', async () => {
    const port = await open('broken')
    const broken = {
      id: '0001_a',
      sql: 'CREATE TABLE t (x INTEGER)\n--> statement-breakpoint\nCREATE TABLE t (x INTEGER)',
    }

    await expect(migrate(port, [broken], now)).rejects.toThrow('already exists')

    expect(await port.read(statement("SELECT name FROM sqlite_master WHERE name = 't'"))).toEqual([])
    expect(await port.read(statement('SELECT id FROM schema_migrations'))).toEqual([])
  })

  test('a store made with another text of a migration, or by a newer program, is refused', async () => {
    const port = await open('foreign')
    const one = { id: '0001_a', sql: 'CREATE TABLE t (x INTEGER)' }
    await migrate(port, [one], now)

    await expect(migrate(port, [{ ...one, sql: 'CREATE TABLE u (x INTEGER)' }], now)).rejects.toThrow(StoreUnusable)
    await expect(migrate(port, [], now)).rejects.toThrow('use a newer one')
  })
}

function statement(sql: string, params: readonly SqlValue[] = []): Statement {
  return { sql, params }
}

function insert(id: number, value: SqlValue): Statement {
  return statement('INSERT INTO things (id, value) VALUES (?, ?)', [id, value])
}

async function contents(port: SqlPort): Promise<SqlValue[][][]> {
  const tables = ['versions', 'pool_bodies', 'secrets']
  return await Promise.all(tables.map((table) => port.read(statement(`SELECT * FROM ${table}`))))
}
