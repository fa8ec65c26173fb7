/** Why `text` is not a valid address for hints; undefined if it is. */
export function hintUrlFault(text: string): string | undefined {
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol)) return 'must be an http or https URL'
  if (url.username !== '' || url.password !== '') return 'must not contain a user name or password'
  if (url.search !== '' || url.hash !== '') return 'must not have a query or fragment'
  return undefined
}
