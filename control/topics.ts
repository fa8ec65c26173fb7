/** What a parked request can wait for. */
export function configTopic(fleet: string): string {
  return `config ${fleet}`
}

export function reportsTopic(fleet: string): string {
  return `reports ${fleet}`
}
