/** Name of the section for all databases or users that have no section of their own. */
export const wildcard = '*'
