import { collectDefaultMetrics, Counter, Gauge as PromGauge, Registry } from 'prom-client'
import type { Counters, Gauge, Metrics } from '../host.ts'

const counters = {
  polls: { help: 'manifest polls, by result', label: 'result' },
  reports: { help: 'reports of proxies, by result', label: 'result' },
  events: { help: 'events in reports of proxies, including repeated ones', label: 'result' },
  store_failures: { help: 'requests that failed because the store was locked or its disk full', label: 'reason' },
} as const satisfies Record<keyof Counters, { help: string; label: string }>

/** The process's metrics, control's counters, and gauges that are read on request. */
export class NodeMetrics implements Metrics {
  readonly #registry = new Registry()
  readonly #counters = new Map<string, Counter>()
  readonly #hints: Counter
  readonly #gauges = new Map<string, PromGauge>()

  constructor() {
    collectDefaultMetrics({ register: this.#registry })
    for (const [name, { help, label }] of Object.entries(counters)) {
      this.#counters.set(name, this.#counter(name, help, label))
    }
    this.#hints = this.#counter('hints', 'hints to proxies, by result', 'result')
  }

  count<Name extends keyof Counters>(name: Name, label: Counters[Name], by = 1): void {
    this.#counters.get(name)!.inc({ [counters[name].label]: label }, by)
  }

  hint(result: 'delivered' | 'failed' | 'silenced'): void {
    this.#hints.inc({ result })
  }

  async render(gauges: readonly Gauge[]): Promise<{ contentType: string; body: string }> {
    for (const { name, help, samples } of gauges) {
      const gauge = this.#gauge(name, help, Object.keys(samples[0]?.labels ?? {}))
      gauge.reset()
      for (const { labels, value } of samples) gauge.set({ ...labels }, value)
    }
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() }
  }

  #counter(name: string, help: string, label: string): Counter {
    const fullName = `flotilla_control_${name}_total`
    return new Counter({ name: fullName, help, labelNames: [label], registers: [this.#registry] })
  }

  #gauge(name: string, help: string, labelNames: string[]): PromGauge {
    const known = this.#gauges.get(name)
    // The labels of a gauge without samples are unknown.
    if (known !== undefined && labelNames.length === 0) return known
    if (known !== undefined) this.#registry.removeSingleMetric(name)
    const gauge = new PromGauge({ name, help, labelNames, registers: [this.#registry] })
    this.#gauges.set(name, gauge)
    return gauge
  }
}
