/** What of time and chance the agent uses, given by the entry so that tests decide them. */
export interface Chance {
  /** The wall clock. */
  readonly now: () => Date
  /** 0 ≤ x < 1. */
  readonly random: () => number
}

/** Waits of the agent, in milliseconds, where neither control nor the configuration decides them. */
export interface Waits {
  readonly backoffFirstMs: number
  readonly backoffMaxMs: number
  /** Between two polls while control refuses the proxy's token. */
  readonly refusedPollMs: number
  /** Between polls until control has said its own interval. */
  readonly pollIntervalMs: number
  /** Between two reports when nothing happens. */
  readonly reportIntervalMs: number
  /** Between two reports while old servers finish transactions. */
  readonly drainingReportMs: number
  /** For control to answer one request, beyond the time it was asked to wait. */
  readonly requestTimeoutMs: number
  /** For one look-up of a server's name. */
  readonly lookupTimeoutMs: number
  /** Between two times that control is asked for the other proxies of the fleet. */
  readonly peersMs: number
  /** At least this long when requests for proxies that are not known ask for it. */
  readonly peersAgainMs: number
  /** Between two looks at the files of certificates. */
  readonly tlsFilesMs: number
  /** Between two looks at what former processes lose while they drain. */
  readonly drainsMs: number
  /** For the engine's thread to answer; one that does not is ended and started again. */
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
  lookupTimeoutMs: 5000,
  peersMs: 60_000,
  peersAgainMs: 2000,
  tlsFilesMs: 1000,
  drainsMs: 1000,
  engineAnswerMs: 30_000,
}
