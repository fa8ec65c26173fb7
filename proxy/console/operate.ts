/** Operations at the console, with PgBouncer's texts and waits. */
import { SqlError } from '../../shared/errors.ts'
import { operations } from '../../shared/operations.ts'
import type { OperationName } from '../../shared/operations.ts'
import * as write from '../protocol/write.ts'
import type { Exchange } from '../engine/wire/conversation.ts'
import type { Operation } from '../operation.ts'
import type { StopMode } from '../port.ts'
import { hasEnded, isPaused, killClient as killById, operate } from './operations.ts'
import { whenFlushed } from '../engine/suspension.ts'
import type { Caller, Run } from './caller.ts'
import { CommandError } from './command-error.ts'
import { queryOthers } from './others.ts'
import { consoleName } from './console-name.ts'
import type { Statement } from './statements.ts'

/** The function of each operation. */
export const operationCommands: Readonly<Record<OperationName, Run>> = {
  reload,
  pause,
  resume,
  reconnect,
  wait_close: waitClose,
  disable,
  enable,
  kill,
  kill_client: killClient,
  suspend,
  shutdown,
}

/** PAUSE [db]: completes when all servers have been released and closed. */
function* pause(caller: Caller, statement: Statement): Exchange<void> {
  const { engine } = caller
  const database = databaseOf(caller, statement)
  if (!(yield* onAllWorkers(caller, 'pause', database))) {
    if (database === null) throw alreadyStopped()
    throw refused(database, 'already paused')
  }
  yield* ended(caller, operations.pause.waitsFor, database)
  if (!isPaused(engine, database)) throw refused(database, 'resumed before all of its servers were released')
  done(caller, 'PAUSE')
}

/** RESUME [db]: after PAUSE and KILL; without a database also after SUSPEND. */
function* resume(caller: Caller, statement: Statement): Exchange<void> {
  const database = optionalName(statement)
  if (!(yield* onAllWorkers(caller, 'resume', database))) {
    // A database that was removed from the configuration may still be paused; one that never existed cannot.
    if (database !== null) databaseOf(caller, statement)
    throw refused(database, database === null ? 'not paused/suspended' : 'not paused')
  }
  done(caller, 'RESUME')
}

function* disable(caller: Caller, statement: Statement): Exchange<void> {
  const database = neededDatabase(caller, statement)
  yield* onAllWorkers(caller, 'disable', database)
  done(caller, 'DISABLE')
}

function* enable(caller: Caller, statement: Statement): Exchange<void> {
  const database = neededName(statement)
  if (!(yield* onAllWorkers(caller, 'enable', database))) neededDatabase(caller, statement)
  done(caller, 'ENABLE')
}

/** KILL [db]: closes all connections now; new clients wait for RESUME. */
function* kill(caller: Caller, statement: Statement): Exchange<void> {
  const database = databaseOf(caller, statement)
  yield* onAllWorkers(caller, 'kill', database)
  done(caller, 'KILL')
}

/** KILL_CLIENT id, as in SHOW CLIENTS. */
function* killClient(caller: Caller, statement: Statement): Exchange<void> {
  const text = optionalName(statement) ?? ''
  const id = /^\d{1,15}$/.test(text) ? Number(text) : null
  if (id === null) throw new CommandError('syntax_error', 'invalid client id', 'Use SHOW CLIENTS to list the ids.')
  if (!killById(caller.engine, id)) {
    const answers = yield* queryOthers(caller, { kind: 'kill_client', client: id })
    if (!answers.includes(true)) throw new SqlError('undefined_object', 'client not found')
  }
  done(caller, 'KILL_CLIENT')
}

function* reconnect(caller: Caller, statement: Statement): Exchange<void> {
  const database = databaseOf(caller, statement)
  yield* onAllWorkers(caller, 'reconnect', database)
  done(caller, 'RECONNECT')
}

/** WAIT_CLOSE [db]: completes when no server from before a RECONNECT or a new version is left. */
function* waitClose(caller: Caller, statement: Statement): Exchange<void> {
  const database = databaseOf(caller, statement)
  yield* ended(caller, operations.wait_close.waitsFor, database)
  done(caller, 'WAIT_CLOSE')
}

/** SUSPEND: completes when everything sent has been taken; connections that do not take it in time are closed. */
function* suspend(caller: Caller): Exchange<void> {
  const { engine } = caller
  if (!(yield* onAllWorkers(caller, 'suspend', null))) throw alreadyStopped()
  // Each worker has the whole timeout, so none waits for another.
  let holds: boolean | null = null
  whenFlushed(engine, (itHolds) => {
    holds = itHolds
    caller.wake()
  })
  const others = yield* queryOthers(caller, { kind: 'wait', for: operations.suspend.waitsFor, database: null })
  yield* caller.until(() => holds !== null)
  if (holds !== true || others.includes(false)) throw refused(null, 'resumed before everything was flushed')
  done(caller, 'SUSPEND')
}

const shutdownModes: Readonly<Record<string, StopMode>> = {
  '': 'now',
  WAIT_FOR_SERVERS: 'drain',
  WAIT_FOR_CLIENTS: 'clients',
}

/** SHUTDOWN [WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]: stops the proxy. */
function shutdown(caller: Caller, statement: Statement): void {
  const mode = shutdownModes[(optionalName(statement) ?? '').toUpperCase()]
  if (mode === undefined) throw invalid(statement, 'The modes are WAIT_FOR_SERVERS and WAIT_FOR_CLIENTS.')
  done(caller, 'SHUTDOWN')
  caller.engine.context.post({ type: 'shutdown', mode })
}

/** Drops the overrides of SET and asks control for a newer configuration; completes when it runs, or with the error. */
function* reload(caller: Caller): Exchange<void> {
  caller.engine.overrides.drop()
  yield* queryOthers(caller, { kind: 'set', key: '', value: null })
  let outcome: { readonly error: string | null } | null = null
  caller.engine.reload((error) => {
    outcome = { error }
    caller.wake()
  })
  yield* caller.until(() => outcome !== null)
  const { error } = outcome as unknown as { error: string | null } // set by the callback, which the compiler cannot see
  if (error !== null) throw new SqlError('config_file_error', error)
  done(caller, 'RELOAD')
}

function done(caller: Caller, tag: string): void {
  caller.send(write.commandComplete(tag))
}

/**
 * An operation completes when all workers have executed it, this one too only in its turn: of opposite operations at
 * two consoles, the same one is last in all workers. Returns whether it had an effect here.
 */
function* onAllWorkers(caller: Caller, operation: Operation, database: string | null): Exchange<boolean> {
  const { engine } = caller
  const { workers } = engine.context
  if (workers === null) return operate(engine, operation, database)
  const answers = yield* queryOthers(caller, { kind: 'operate', operation, database })
  return answers[workers.self] !== false
}

/** Waits until all workers are done with what an operation waits for. */
function* ended(caller: Caller, what: 'servers' | 'leaving_servers', database: string | null): Exchange<void> {
  const condition = hasEnded(caller.engine, what, database)
  if (!condition()) {
    let happened = false
    caller.engine.when(condition, () => {
      happened = true
      caller.wake()
    })
    yield* caller.until(() => happened)
  }
  yield* queryOthers(caller, { kind: 'wait', for: what, database })
}

/** The word after the command; null without one. */
function optionalName(statement: Statement): string | null {
  const [, name, ...rest] = statement
  if (rest.length > 0 || name?.kind === 'symbol') {
    throw invalid(statement, 'At most one name may follow; quote a name that is not an identifier.')
  }
  return name?.value ?? null
}

function neededName(statement: Statement): string {
  const name = optionalName(statement)
  if (name === null)
    throw new CommandError('syntax_error', 'a database is required', 'The command must be followed by its name.')
  return name
}

/** PgBouncer's text. */
function invalid(statement: Statement, hint: string): CommandError {
  const shown = statement.map((token) => token.value).join(' ')
  return new CommandError('syntax_error', `invalid command '${shown.slice(0, shownMax)}', use SHOW HELP;`, hint)
}

const shownMax = 60

/** Null means all databases. */
function databaseOf({ engine }: Caller, statement: Statement): string | null {
  const name = optionalName(statement)
  if (name === null) return null
  if (name === consoleName) {
    const verb = statement[0]?.value.toLowerCase()
    throw new SqlError('feature_not_supported', `cannot ${verb} admin db: ${name}`)
  }
  if (!engine.pools.hasDatabase(name)) throw new SqlError('invalid_catalog_name', `no such database: ${name}`)
  return name
}

function neededDatabase(caller: Caller, statement: Statement): string {
  neededName(statement)
  return databaseOf(caller, statement) as string // a name is present
}

function alreadyStopped(): SqlError {
  return new SqlError('object_not_in_prerequisite_state', 'already suspended/paused')
}

function refused(database: string | null, what: string): SqlError {
  const subject = database === null ? 'pooler' : `database ${database}`
  return new SqlError('object_not_in_prerequisite_state', `${subject} is ${what}`)
}
