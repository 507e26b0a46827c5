import { Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DeliveryRule, Method } from '@ringback/core/providers/provider'
import { Pool } from 'undici'

// The provider's side of HTTP: its time limit, which answers it takes for a delivery, its retries, and faults on demand.

/** One request, from its first attempt to the last. */
export interface RequestToSend {
  /** Makes the request for one attempt. */
  make: () => { method: Method; path: string; headers: Record<string, string>; body: Buffer }
  /** Whether to break the connection in the middle of its first attempt. */
  dropped: boolean
  /** Whether it is neither forged nor stale. Whoever sends such requests does not try again when they are refused. */
  isProviders: boolean
}

export interface SendPlan {
  /** Scheme, host and port. */
  origin: string
  /** Functions that each make a request when its turn comes. */
  requests: (() => RequestToSend)[]
  delivery: DeliveryRule
  /** The longest pause between attempts; the provider's are cut to this. */
  maxRetryDelayMs: number
  /** Over what time the body is sent, in pieces. */
  slowBodyMs: number
  /** Callbacks in a request, for the rate. */
  batch: number
  /** Callbacks a second; undefined sends them as fast as they are answered. */
  ratePerSecond: number | undefined
  /** How many requests may be under way at once, each on a connection of its own. */
  concurrency: number
  onProgress: (done: number, total: number) => void
}

/** How a request ended. */
export type Ending = 'accepted' | 'refused' | 'givenUp' | 'failed'

/** What a provider could report about its receiver. */
export interface SendReport {
  /**
   * `byStatus` counts the last answer to each request, or what came instead of one. `undelivered` are those that are neither
   * forged nor stale, and were not accepted.
   */
  requests: Record<Ending, number> & { undelivered: number; byStatus: Record<string, number> }
  attempts: { total: number; retries: number }
  latencyMs: { p50: number; p95: number; p99: number; max: number }
  seconds: number
}

const PIECES = 10

interface OpenRequest {
  request: RequestToSend
  attempts: number
}

/** Sends every request until it is delivered or the provider would give up. */
export async function sendAll(plan: SendPlan): Promise<SendReport> {
  const { requests, delivery } = plan
  const pool = new Pool(plan.origin, {
    connections: plan.concurrency,
    connect: { timeout: delivery.timeoutMs },
    // An attempt has a time limit as a whole.
    headersTimeout: 0,
    bodyTimeout: 0,
  })
  const latencies: number[] = []
  const report: SendReport['requests'] = {
    accepted: 0,
    refused: 0,
    givenUp: 0,
    failed: 0,
    undelivered: 0,
    byStatus: {},
  }
  const startedAt = performance.now()
  /** Requests whose pause is over. */
  const due: OpenRequest[] = []
  let retriesDue = Promise.withResolvers<void>()
  let attempts = 0
  let next = 0
  let done = 0

  async function takeNext(): Promise<OpenRequest | undefined> {
    for (;;) {
      const again = due.shift()
      if (again !== undefined) return again
      if (next < requests.length) {
        const index = next
        next += 1
        if (plan.ratePerSecond !== undefined) {
          const dueAt = startedAt + (index * plan.batch * 1000) / plan.ratePerSecond
          await sleep(Math.max(0, dueAt - performance.now()))
        }
        return { request: requests[index]!(), attempts: 0 }
      }
      if (done === requests.length) return undefined
      await retriesDue.promise
    }
  }

  function wakeSenders(): void {
    retriesDue.resolve()
    retriesDue = Promise.withResolvers()
  }

  async function sendOnce(open: OpenRequest): Promise<void> {
    const dropsNow = open.request.dropped && open.attempts === 0
    attempts += 1
    open.attempts += 1
    const sentAt = performance.now()
    const answer = await attempt(pool, open.request, { dropsNow, delivery, slowBodyMs: plan.slowBodyMs })
    if (!dropsNow) latencies.push(performance.now() - sentAt)
    const decision = decide(answer, open, delivery)
    if (decision.kind === 'retry') {
      setTimeout(
        () => {
          due.push(open)
          wakeSenders()
        },
        Math.min(decision.delayMs, plan.maxRetryDelayMs),
      )
      return
    }
    report[decision.ending] += 1
    if (open.request.isProviders && decision.ending !== 'accepted') report.undelivered += 1
    report.byStatus[answer] = (report.byStatus[answer] ?? 0) + 1
    done += 1
    if (done % 500 === 0) plan.onProgress(done, requests.length)
    if (done === requests.length) wakeSenders()
  }

  async function sender(): Promise<void> {
    for (let open = await takeNext(); open !== undefined; open = await takeNext()) await sendOnce(open)
  }

  try {
    await Promise.all(Array.from({ length: plan.concurrency }, sender))
  } finally {
    await pool.destroy()
  }
  return {
    requests: report,
    attempts: { total: attempts, retries: attempts - requests.length },
    latencyMs: percentiles(latencies),
    seconds: round((performance.now() - startedAt) / 1000),
  }
}

/** Makes one attempt. Resolves to a status, or to the name of what came instead of an answer. */
async function attempt(
  pool: Pool,
  { make }: RequestToSend,
  { dropsNow, delivery, slowBodyMs }: { dropsNow: boolean; delivery: DeliveryRule; slowBodyMs: number },
): Promise<string> {
  const { method, path, headers, body } = make()
  const limit = new AbortController()
  // The time that we take to send the body does not count for the receiver.
  const timer = setTimeout(() => limit.abort(named('timeout')), delivery.timeoutMs + slowBodyMs)
  const inPieces = dropsNow || (slowBodyMs > 0 && body.length > 0)
  // A request without a body announces one byte, or there would be nothing to break off.
  const length = dropsNow ? Math.max(body.length, 1) : body.length
  try {
    const response = await pool.request({
      method,
      path,
      headers: inPieces ? { ...headers, 'content-length': String(length) } : headers,
      body: inPieces
        ? Readable.from(dropsNow ? brokenOff(body) : slowly(body, slowBodyMs))
        : body.length > 0
          ? body
          : null,
      signal: limit.signal,
    })
    await response.body.dump({ limit: 1024 * 1024, signal: limit.signal })
    return String(response.statusCode)
  } catch (error) {
    const { code, name } = error as NodeJS.ErrnoException
    return typeof code === 'string' ? code : name
  } finally {
    clearTimeout(timer)
  }
}

/** What the provider does after an answer; `answer` is a status, or the name of what came instead. */
export function decide(
  answer: string,
  { request, attempts }: { request: Pick<RequestToSend, 'isProviders'>; attempts: number },
  { isDelivered, isRetried, retryDelaysMs }: DeliveryRule,
): { kind: 'retry'; delayMs: number } | { kind: 'end'; ending: Ending } {
  const status = /^\d{3}$/.test(answer) ? Number(answer) : undefined
  if (status !== undefined && isDelivered(status)) return { kind: 'end', ending: 'accepted' }
  const isRefusal = status !== undefined && status >= 400 && status < 500
  const isRetriable = status === undefined || ((isRetried?.(status) ?? true) && (request.isProviders || !isRefusal))
  const delayMs = retryDelaysMs[attempts - 1]
  if (isRetriable && delayMs !== undefined) return { kind: 'retry', delayMs }
  if (isRetriable && attempts > 1) return { kind: 'end', ending: 'givenUp' }
  return { kind: 'end', ending: isRefusal ? 'refused' : 'failed' }
}

async function* slowly(body: Buffer, overMs: number): AsyncGenerator<Buffer> {
  const size = Math.ceil(body.length / PIECES)
  const pauseMs = overMs / Math.ceil(body.length / size)
  for (let at = 0; at < body.length; at += size) {
    await sleep(pauseMs)
    yield body.subarray(at, at + size)
  }
}

async function* brokenOff(body: Buffer): AsyncGenerator<Buffer> {
  if (body.length > 1) yield body.subarray(0, Math.floor(body.length / 2))
  // Long enough for the first half to arrive.
  await sleep(20)
  throw named('dropped')
}

function named(code: string): Error {
  return Object.assign(new Error(code), { code })
}

function percentiles(latencies: number[]): SendReport['latencyMs'] {
  const sorted = Float64Array.from(latencies).toSorted()
  const at = (share: number) => round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0)
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: at(1) }
}

function round(value: number): number {
  return Math.round(value * 100) / 100
}
