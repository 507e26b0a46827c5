import { setTimeout as sleep } from 'node:timers/promises'
import { Pool } from 'undici'

export interface SendPlan {
  url: string
  /** Each makes the body of one request. */
  bodies: (() => string)[]
  /** Callbacks in a request, for the rate. */
  batch: number
  /** Callbacks a second; as fast as they are answered where it is not given. */
  ratePerSecond: number | undefined
  /** Requests under way at once, each on a connection of its own. */
  concurrency: number
  onProgress: (done: number, total: number) => void
}

/** What a provider would say of its receiver. */
export interface SendReport {
  requests: { accepted: number; refused: number; failed: number; byStatus: Record<string, number> }
  latencyMs: { p50: number; p95: number; p99: number; max: number }
  seconds: number
}

const TIMEOUT_MS = 10_000

/** Sends every body once. Accepted is 200; refused is another 4xx; failed is everything else, no answer included. */
export async function sendAll(plan: SendPlan): Promise<SendReport> {
  const { origin, pathname, search } = new URL(plan.url)
  const pool = new Pool(origin, { connections: plan.concurrency, headersTimeout: TIMEOUT_MS, bodyTimeout: TIMEOUT_MS })
  const latencies: number[] = []
  const byStatus: Record<string, number> = {}
  const startedAt = performance.now()
  let next = 0
  let done = 0

  async function sendOne(body: string): Promise<void> {
    const sentAt = performance.now()
    const status = await pool
      .request({ method: 'POST', path: pathname + search, headers: { 'content-type': 'application/json' }, body })
      .then(async (response) => {
        await response.body.dump()
        return String(response.statusCode)
      })
      .catch((error: NodeJS.ErrnoException) => error.code ?? error.name)
    latencies.push(performance.now() - sentAt)
    byStatus[status] = (byStatus[status] ?? 0) + 1
    done += 1
    if (done % 500 === 0) plan.onProgress(done, plan.bodies.length)
  }

  async function sender(): Promise<void> {
    while (next < plan.bodies.length) {
      const index = next
      next += 1
      if (plan.ratePerSecond !== undefined) {
        const dueAt = startedAt + (index * plan.batch * 1000) / plan.ratePerSecond
        await sleep(Math.max(0, dueAt - performance.now()))
      }
      await sendOne(plan.bodies[index]!())
    }
  }

  await Promise.all(Array.from({ length: plan.concurrency }, sender))
  const seconds = round((performance.now() - startedAt) / 1000)
  await pool.close()
  const counts = Object.entries(byStatus)
  const sum = (test: (status: string) => boolean) =>
    counts.reduce((total, [status, count]) => total + (test(status) ? count : 0), 0)
  const accepted = sum((status) => status === '200')
  const refused = sum((status) => /^4\d\d$/.test(status))
  return {
    requests: { accepted, refused, failed: plan.bodies.length - accepted - refused, byStatus },
    latencyMs: percentiles(latencies),
    seconds,
  }
}

function percentiles(latencies: number[]): SendReport['latencyMs'] {
  const sorted = Float64Array.from(latencies).toSorted()
  const at = (share: number) => round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0)
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) }
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}
