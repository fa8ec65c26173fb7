/** What a test does not listen to of the engines of a supervisor or of workers. */
export const unheard = {
  onDisconnect: () => undefined,
  onReload: () => undefined,
  onPeers: () => undefined,
  onShutdown: () => undefined,
  onListening: () => undefined,
  onRestart: () => undefined,
} as const
