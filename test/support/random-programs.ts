/** How many random programs a property test runs: FLOTILLA_PROGRAMS=5000; and the seed of a former run. */
export const programs = Number(process.env['FLOTILLA_PROGRAMS'] ?? '200')
export const programsSeed = process.env['FLOTILLA_PROGRAMS_SEED']
