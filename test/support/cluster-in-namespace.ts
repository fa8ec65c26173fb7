/**
 * Runs in a network namespace (`ip netns exec NAME node …`): a PostgreSQL cluster whose options are JSON in the first
 * argument. Prints its log, and a line when it is ready; signals are forwarded.
 */
import { startCluster } from '../../cli/start/embedded-postgres.ts'

const options = JSON.parse(process.argv[2] ?? '{}') as Parameters<typeof startCluster>[0]
const say = (message: object): void => void process.send?.(message)

const cluster = await startCluster({ ...options, onLine: (line) => say({ line }) })
say({ ready: true })
for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM'] as const) process.on(signal, () => cluster.kill(signal))
process.on('disconnect', () => cluster.kill('SIGQUIT'))
cluster.on('exit', () => process.exit(0))
