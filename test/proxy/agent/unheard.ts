/** What a test does not listen to of a keeper's or a crew's engines. */
export const unheard = {
  onDisconnect: () => undefined,
  onReload: () => undefined,
  onPeers: () => undefined,
  onShutdown: () => undefined,
  onListening: () => undefined,
  onRestart: () => undefined,
} as const
