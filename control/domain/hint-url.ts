import type { Network } from '../../shared/config/network.ts'
import { hostFault } from '../../shared/registered-address.ts'

/** Of the ports below this, those of system services, HTTP has two. */
const systemPortsEnd = 1024

/**
 * Why control does not send hints to `text`; undefined when it does.
 * @param allowed the networks that the operator allows.
 */
export function hintUrlFault(text: string, allowed?: readonly Network[]): string | undefined {
  const url = URL.parse(text)
  if (url === null || !['http:', 'https:'].includes(url.protocol)) return 'must be an http or https URL'
  if (url.username !== '' || url.password !== '') return 'must not contain a user name or password'
  if (url.search !== '' || url.hash !== '') return 'must not have a query or fragment'
  // The port is empty where it is the protocol's own.
  const port = url.port === '' ? undefined : Number(url.port)
  if (port !== undefined && port < systemPortsEnd && port !== 80 && port !== 443) {
    return `must not have port ${port}, of those below ${systemPortsEnd} only 80 and 443`
  }
  return hostFault(url.hostname.replace(/^\[|\]$/g, ''), allowed)
}
