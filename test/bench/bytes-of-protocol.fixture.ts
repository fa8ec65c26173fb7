/** Prints the bytes that a transaction of one protocol allocates, in a process that has seen no other. */
import { bytesPerTransaction, warmTraffic } from '../../bench/engine.ts'
import type { Protocol } from '../../bench/options.ts'

process.stdout.write(String(bytesPerTransaction(warmTraffic(process.argv[2] as Protocol))))
