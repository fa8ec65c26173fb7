/** Replaces a method until the returned function is called; `make` gets the original. */
export function replace<Owner extends object, Key extends keyof Owner>(
  owner: Owner,
  key: Key,
  make: (original: Owner[Key]) => Owner[Key],
): () => void {
  const before = Object.getOwnPropertyDescriptor(owner, key)
  if (before === undefined) throw new Error(`there is no ${String(key)} to replace`)
  Object.defineProperty(owner, key, { ...before, value: make(owner[key]) })
  return () => Object.defineProperty(owner, key, before)
}
