/** The console's own database and user in lists: PgBouncer's name, which tools know to leave out. */
export const consoleName = 'pgbouncer'
