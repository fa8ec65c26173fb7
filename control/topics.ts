/** Events that a parked request can wait for. */
export function configTopic(fleet: string): string {
  return `config ${fleet}`
}

/** A parked poll of this proxy should be answered although nothing is new. */
export function askedTopic(fleet: string, proxy: string): string {
  return `asked ${fleet} ${proxy}`
}

export function reportsTopic(fleet: string): string {
  return `reports ${fleet}`
}
