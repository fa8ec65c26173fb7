/** In place of a database's or a user's name: every one that has no section of its own. */
export const wildcard = '*'
