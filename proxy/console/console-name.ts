/** The console's database and user in lists: PgBouncer's name, which tools skip. */
export const consoleName = 'pgbouncer'
