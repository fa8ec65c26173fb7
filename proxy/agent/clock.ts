/** Sources of time and randomness, passed in so that tests control them. */
export interface Chance {
  /** The wall clock. */
  readonly now: () => Date
  /** 0 ≤ x < 1. */
  readonly random: () => number
}

/** Delays of the agent in milliseconds that neither control nor the configuration determines. */
export interface Waits {
  readonly backoffFirstMs: number
  readonly backoffMaxMs: number
  /** Between polls while control rejects the token. */
  readonly refusedPollMs: number
  /** Between polls until control has sent an interval. */
  readonly pollIntervalMs: number
  /** Between reports without events. */
  readonly reportIntervalMs: number
  /** Between reports while servers drain. */
  readonly drainingReportMs: number
  /** For control's response to a request, in addition to a requested wait. */
  readonly requestTimeoutMs: number
  /** A starting proxy serves what it ran last when control has not answered for this long. */
  readonly firstAnswerMs: number
  /** For one DNS lookup. */
  readonly lookupTimeoutMs: number
  /** Between requests for the list of peers. */
  readonly peersMs: number
  /** Minimum between such requests when cancel requests name unknown proxies. */
  readonly peersAgainMs: number
  /** Between checks of certificate files. */
  readonly tlsFilesMs: number
  /** Between checks for events of draining processes. */
  readonly drainsMs: number
  /** For a response of the engine's thread; a thread that takes longer is terminated and restarted. */
  readonly engineAnswerMs: number
}

export const defaultWaits: Waits = {
  backoffFirstMs: 1000,
  backoffMaxMs: 60_000,
  refusedPollMs: 60_000,
  pollIntervalMs: 5000,
  reportIntervalMs: 30_000,
  drainingReportMs: 2000,
  requestTimeoutMs: 10_000,
  firstAnswerMs: 2000,
  lookupTimeoutMs: 5000,
  peersMs: 60_000,
  peersAgainMs: 2000,
  tlsFilesMs: 1000,
  drainsMs: 1000,
  engineAnswerMs: 30_000,
}
