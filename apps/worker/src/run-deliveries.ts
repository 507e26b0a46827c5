import { setTimeout as sleep } from 'node:timers/promises'
import { DeliveriesJob } from '@ringback/core/callback'
import type { Config, Handler } from '@ringback/core/config'
import { HandlerError } from '@ringback/core/handlers'
import type { AttemptReport, HandledEvent, HandlerContext } from '@ringback/core/handlers'
import type { Logger } from '@ringback/core/log'
import { parsePayload } from '@ringback/core/parse-payload'
import { nextStep } from '@ringback/core/retry'
import type { NextStep } from '@ringback/core/retry'
import type { Sql } from '@ringback/core/store/connect'
import { framesOf, messageOf, textOf } from '@ringback/core/thrown'
import type { Tracing } from '@ringback/core/tracing'
import { claimDeliveries, deferDeliveries, recordAttempts, renewLeases } from './deliveries-table.ts'
import type { Claimed, ClaimOptions, EndedAttempt, QueuedDelivery } from './deliveries-table.ts'
import { admit, settle } from './destination.ts'
import { addDestinations, countRunning, lockDestination, noteOutcomes, saveDestination } from './destinations-table.ts'
import { createRunner } from './handlers/runner.ts'
import type { Runner, StoredRequest } from './handlers/runner.ts'
import { verdictOn } from './postgres-errors.ts'
import { createTurns, MAX_ATTEMPTS } from './turns.ts'
import type { TurnLimits } from './turns.ts'

export interface RunDependencies {
  sql: Sql
  config: Pick<Config, 'sources' | 'handlers'>
  random: () => number
  log: Logger
  /** Fires when the process is to end: deliveries that have not begun are left to the next worker. */
  signal: AbortSignal
  /** Called for each attempt when it is over. */
  onAttempt: (attempt: FinishedAttempt) => void
  tracing?: Tracing | undefined
}

/** What is counted of an attempt. */
export interface FinishedAttempt {
  source: string
  type: string
  handler: string
  ok: boolean
  /** Undefined if it succeeded. */
  error: string | undefined
  durationMs: number
  /** What became of the delivery. */
  next: NextStep['kind']
}

export interface DeliveryRunner {
  /**
   * Processes the data of a deliveries job: one attempt of each delivery in it, unless it was made already. Whenever
   * attempts begin, it calls `mayTake` with the time that they may take, in ms. A job that goes first has the handler's next
   * turn.
   */
  process: (data: unknown, mayTake?: (ms: number) => void, goesFirst?: boolean) => Promise<void>
  /** Whether a handler has as many jobs in hand as it may. */
  isFull: (handler: string) => boolean
  /** How many attempts are running. */
  running: () => number
  /** Ends the handlers' connections. */
  close: () => Promise<void>
}

/** The crowd is half of the jobs that a worker takes at once. A job waits for less time than its deliveries are leased. */
const TURNS: TurnLimits = { perHandler: 4, crowd: 32, maxWaitMs: 5000 }
/** How long an attempt that is over may wait to be recorded, however long the others of its job take. */
const RECORD_INTERVAL_MS = 1000
/** How long deliveries wait in Postgres after their job has failed, or has got no turn: then up to twice that, at random. */
const BUSY_WAIT_MS = 1000
/** How long a job in hand may wait for its destination: in all, and in one pause. Else its deliveries wait in Postgres. */
const MAX_WAIT_IN_HAND_MS = 10_000
const MAX_PAUSE_IN_HAND_MS = 1000
/** How much longer than its time limit an attempt is leased: half for the answer that it has begun, half to record it. */
const LEASE_MARGIN_MS = 5000

/** Makes the runner of every handler, and its row in `destinations` where it has limits. */
export async function createRunDeliveries(deps: RunDependencies): Promise<DeliveryRunner> {
  const handlers = new Map(deps.config.handlers.map((handler) => [handler.name, handler]))
  const isAlertOver = async (id: string) =>
    (await deps.sql`select from alerts where id = ${id} and state = 'open'`).length === 0
  const { sources } = deps.config
  const runners = new Map(
    deps.config.handlers.map((handler) => [handler.name, createRunner(handler, { sources, isAlertOver })]),
  )
  const turns = createTurns(TURNS)
  let running = 0
  await addDestinations(
    deps.sql,
    deps.config.handlers.filter(({ limits }) => limits !== undefined).map(({ name }) => name),
  )

  async function process(data: unknown, mayTake?: (ms: number) => void, goesFirst?: boolean): Promise<void> {
    const { handler: name, deliveries } = DeliveriesJob.parse(data)
    const handler = handlers.get(name)
    const runner = runners.get(name)
    // Another version of the configuration may know the handler. The scanner settles what stays without one.
    if (handler === undefined || runner === undefined) return
    if (!(await turns.begin(name, goesFirst)))
      return deferDeliveries(deps.sql, deliveries, BUSY_WAIT_MS * (1 + deps.random()))
    try {
      await runAll({ handler, runner }, deliveries, mayTake)
    } catch (error) {
      // What has not begun need not wait until its lease has run out.
      await deferDeliveries(deps.sql, deliveries, BUSY_WAIT_MS).catch(() => undefined)
      throw error
    } finally {
      turns.end(name)
    }
  }

  async function runAll(own: OwnHandler, deliveries: QueuedDelivery[], mayTake?: (ms: number) => void): Promise<void> {
    let rest = deliveries
    let waitedMs = 0
    while (rest.length > 0) {
      if (deps.signal.aborted) return deferDeliveries(deps.sql, rest, 0)
      const askedAt = performance.now()
      const { claimed, begun, waitMs } = await begin(deps, own, rest)
      if (begun === 0) {
        const mayWait = waitMs <= MAX_PAUSE_IN_HAND_MS && waitedMs < MAX_WAIT_IN_HAND_MS && !turns.isCrowded()
        if (!mayWait) return deferDeliveries(deps.sql, rest, waitMs)
        waitedMs += waitMs
        await sleep(waitMs, undefined, { signal: deps.signal }).catch(() => undefined) // ends the pause, not the turn
        continue
      }
      rest = rest.slice(begun)
      const leased = await leasedFromNow(deps.sql, claimed, { ms: leaseMs(own.runner), askedAt })
      mayTake?.(leaseMs(own.runner))
      // One signal for all that begin now: each timer keeps what it holds in memory until the time limit.
      const signal = AbortSignal.timeout(own.runner.timeoutMs)
      const attempts = leased.map((delivery) => counted(attempt(deps, own, delivery, signal)))
      const unrecorded = await recordAsTheyEnd(deps, own.handler, attempts)
      if (unrecorded.length > 0) return finishEach(deps.sql, own.handler, { attempts: unrecorded, rest })
    }
  }

  async function counted(attempted: Promise<Finished>): Promise<Finished> {
    running += 1
    return attempted.finally(() => (running -= 1))
  }

  return {
    process,
    isFull: turns.isFull,
    running: () => running,
    close: async () => void (await Promise.all([...runners.values()].map((runner) => runner.close()))),
  }
}

interface OwnHandler {
  handler: Handler
  runner: Runner
}

const leaseMs = ({ timeoutMs }: Runner) => timeoutMs + LEASE_MARGIN_MS

function claimOptions({ handler, runner }: OwnHandler): ClaimOptions {
  const { needsRequest } = runner
  return { leaseMs: leaseMs(runner), isCounted: handler.limits?.concurrency !== undefined, needsRequest }
}

/** Begins attempts of the first deliveries, as many as the destination may get. If none, `waitMs` says when to ask again. */
async function begin(
  { sql, random }: RunDependencies,
  own: OwnHandler,
  deliveries: QueuedDelivery[],
): Promise<{ claimed: Claimed[]; begun: number; waitMs: number }> {
  const { limits, name } = own.handler
  const { maxAttempts = MAX_ATTEMPTS } = own.runner
  // This job's share of the attempts that the handler may have under way. They are claimed together and run at the same
  // time.
  const first = deliveries.slice(0, maxAttempts / TURNS.perHandler)
  if (limits === undefined)
    return { claimed: await claimDeliveries(sql, first, claimOptions(own)), begun: first.length, waitMs: 0 }
  return sql.begin(async (transaction) => {
    const { destination, now } = await lockDestination(transaction, name)
    const running = limits.concurrency === undefined ? 0 : await countRunning(transaction, name)
    const admission = admit(limits, destination, { wanted: first.length, running, now })
    if (admission.count === 0) return { claimed: [], begun: 0, waitMs: admission.waitMs * (1 + 0.2 * random()) }
    const claimed = await claimDeliveries(transaction, first.slice(0, admission.count), claimOptions(own))
    // If all were claimed elsewhere, nothing has begun here, and so no trial of the breaker either.
    if (claimed.length > 0) await saveDestination(transaction, name, destination, admission.destination)
    return { claimed, begun: admission.count, waitMs: 0 }
  })
}

/**
 * The attempts whose lease is sure to last for their time limit. The lease counts from before the answer: if that comes too
 * late, perhaps because this process was stopped, it is renewed, and what is in another hand by then is not run.
 */
async function leasedFromNow(
  sql: Sql,
  claimed: Claimed[],
  { ms, askedAt }: { ms: number; askedAt: number },
): Promise<Claimed[]> {
  const now = performance.now()
  if (claimed.length === 0 || now - askedAt < LEASE_MARGIN_MS / 2) return claimed
  return leasedFromNow(sql, await renewLeases(sql, claimed, ms), { ms, askedAt: now })
}

interface Finished extends EndedAttempt {
  startedAt: Date
  isGone: boolean
}

/** How long a delivery waits for a disabled destination. Enabling the destination makes it due. */
const GONE_WAIT_MS = 3_600_000

async function attempt(
  deps: RunDependencies,
  own: OwnHandler,
  delivery: Claimed,
  signal: AbortSignal,
): Promise<Finished> {
  const { handler } = own
  const beganAt = performance.now()
  const span = deps.tracing?.attempt(delivery.traceparent)
  const result = await runHandler(deps, own, delivery, { signal, traceparent: span?.traceparent })
  const durationMs = Math.round(performance.now() - beganAt)
  const { id, eventReceivedAt, source, type, attempt: number, startedAt } = delivery
  const { ok, report } = result
  const error = result.ok ? undefined : result.error
  // Only a handler with limits has a destination that can be disabled.
  const isGone = !result.ok && result.isGone && handler.limits !== undefined
  const next: NextStep = isGone
    ? { kind: 'retry', delayMs: GONE_WAIT_MS }
    : nextStep(
        handler.retry,
        { attempt: number - delivery.attemptsAtReplay, ageMs: delivery.ageMs },
        result,
        deps.random,
      )
  deps.log[next.kind === 'dead' ? 'error' : next.kind === 'retry' ? 'warn' : 'info'](
    {
      eventId: delivery.eventId,
      deliveryId: id,
      handler: handler.name,
      attempt: number,
      maxAttempts: handler.retry.maxAttempts,
      outcome: ok ? 'succeeded' : 'failed',
      ...(report.statusCode !== undefined && { statusCode: report.statusCode }),
      ...(!ok && { error, ...(result.stack !== undefined && { stack: result.stack }), next: next.kind }),
      ...(next.kind === 'retry' && { retryInMs: next.delayMs }),
      durationMs,
    },
    'attempt.finished',
  )
  span?.end(attributesOf(handler.name, delivery, result), { failed: !ok })
  deps.onAttempt({ source, type, handler: handler.name, ok, error, durationMs, next: next.kind })
  return { id, eventReceivedAt, attempt: number, startedAt, durationMs, ok, isGone, error, report, next }
}

function attributesOf(handler: string, { id, eventId, source, attempt: number }: Claimed, { ok, report }: Result) {
  return {
    'ringback.handler': handler,
    'ringback.source': source,
    'ringback.event': eventId,
    'ringback.delivery': id,
    'ringback.attempt': number,
    'ringback.outcome': ok ? 'succeeded' : 'failed',
    'http.response.status_code': report.statusCode,
  }
}

type Result =
  | { ok: true; report: AttemptReport }
  | {
      ok: false
      report: AttemptReport
      error: string
      /** Where it was thrown, unless a HandlerError says all there is. */
      stack?: string | undefined
      retryable: boolean
      isGone: boolean
      statusCode?: number | undefined
      retryAfterMs?: number | undefined
    }

/** As `payload_text` in migrations/0021_payload_text.sql has it. */
const UNPRINTABLE = "the event's payload is more than 4 MiB as text; its bytes are in events.raw"

/** Runs the handler once. Never throws. */
async function runHandler(
  deps: RunDependencies,
  { handler, runner }: OwnHandler,
  delivery: Claimed,
  { signal, traceparent }: { signal: AbortSignal; traceparent: string | undefined },
): Promise<Result> {
  const { id, attempt: number, attemptsAtReplay, eventId, source, type } = delivery
  let log: Logger | undefined
  const context: HandlerContext = {
    signal,
    // A replay is meant to act again, so it has a key of its own.
    idempotencyKey: attemptsAtReplay === 0 ? id : `${id}-replay-${attemptsAtReplay}`,
    attempt: number,
    ...(traceparent !== undefined && { traceparent }),
    // Made only for handlers that log: it costs about as much as a line.
    get log() {
      return (log ??= deps.log.child({ eventId, deliveryId: id, handler: handler.name, attempt: number }))
    },
  }
  try {
    if (delivery.payload === null) throw new HandlerError(UNPRINTABLE, { retryable: false })
    const payload = parsePayload(delivery.payload)
    const event: HandledEvent = {
      id: eventId,
      receivedAt: delivery.receivedAt,
      source,
      accountId: delivery.accountId,
      callbackId: delivery.callbackId,
      type,
      callId: delivery.callId,
      verifiedBy: delivery.verifiedBy,
      occurredAt: delivery.occurredAt,
      payload,
      details: deps.config.sources.get(source)?.details(type, payload),
    }
    const report = await runner.run(event, context, storedRequest(delivery), delivery.payload)
    return { ok: true, report: report ?? {} }
  } catch (error) {
    return failureOf(error)
  }
}

/** What a handler threw as the result of its attempt. Never throws, whatever a user's own function has thrown. */
function failureOf(thrown: unknown): Result {
  const message = messageOf(thrown)
  try {
    if (!(thrown instanceof HandlerError)) {
      return { ok: false, report: {}, error: message, stack: framesOf(thrown), retryable: true, isGone: false }
    }
    const { retryable, isGone } = thrown
    // It may have put anything into them.
    const statusCode = isStatusCode(thrown.statusCode) ? thrown.statusCode : undefined
    const retryAfterMs = typeof thrown.retryAfterMs === 'number' ? thrown.retryAfterMs : undefined
    const response = thrown.response === undefined ? undefined : textOf(thrown.response)
    return { ok: false, report: { statusCode, response }, error: message, retryable, isGone, statusCode, retryAfterMs }
  } catch {
    return { ok: false, report: {}, error: message, retryable: true, isGone: false }
  }
}

function isStatusCode(value: unknown): value is number {
  return Number.isInteger(value) && Math.abs(value as number) < 2 ** 31
}

function storedRequest({ method, url, headers, raw }: Claimed): StoredRequest | undefined {
  if (method === undefined || url === undefined || headers === undefined || raw === undefined) return undefined
  return { method, url, headers: JSON.parse(headers) as Record<string, string>, raw }
}

/** Whether `work` is done within `ms` and before `signal` fires. */
function doneWithin(ms: number, signal: AbortSignal, work: Promise<unknown>): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  const giveUp = () => resolve(false)
  signal.addEventListener('abort', giveUp)
  if (signal.aborted) giveUp()
  const timer = setTimeout(giveUp, ms)
  work.then(() => resolve(true), reject)
  return promise.finally(() => {
    clearTimeout(timer)
    signal.removeEventListener('abort', giveUp)
  })
}

/**
 * Records attempts when they are over: all together, or, while some take long, every second those that are over. An attempt
 * that is not recorded when a worker is killed is made again. Resolves to the attempts that are still running when the
 * process is to end.
 */
async function recordAsTheyEnd(
  deps: RunDependencies,
  handler: Handler,
  attempts: Promise<Finished>[],
): Promise<Promise<Finished>[]> {
  let open = attempts
  const over = new Map<Promise<Finished>, Finished>()
  const all = Promise.all(attempts.map(async (attempted) => over.set(attempted, await attempted)))
  while (open.length > 0) {
    const isDone = await doneWithin(RECORD_INTERVAL_MS, deps.signal, all)
    if (!isDone && deps.signal.aborted) break
    const finished = [...over.values()]
    open = open.filter((attempted) => !over.has(attempted))
    over.clear()
    await untilRecorded(deps, () => end(deps.sql, handler, finished))
  }
  return open
}

/**
 * When the process is to end, records each attempt as soon as it is over, and hands back at once what has not begun.
 * Otherwise one attempt that takes longer than there is time would make all the others run again, or wait.
 */
async function finishEach(
  sql: Sql,
  handler: Handler,
  { attempts, rest }: { attempts: Promise<Finished>[]; rest: QueuedDelivery[] },
): Promise<void> {
  await Promise.all([
    rest.length === 0 ? undefined : deferDeliveries(sql, rest, 0),
    ...attempts.map(async (attempted) => end(sql, handler, [await attempted])),
  ])
}

/** How long recording is tried: as long as a lease may be. After that another attempt has been made. */
const RECORD_FOR_MS = 600_000

/**
 * Tries to record until Postgres accepts it, so that an outage makes no handler run twice. A result that comes too late or
 * twice changes nothing. Rejects when the process is to end, or when Postgres refuses it; another attempt is made then.
 */
async function untilRecorded({ log, signal }: RunDependencies, record: () => Promise<void>): Promise<void> {
  const deadline = performance.now() + RECORD_FOR_MS
  for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 500)) {
    try {
      return await record()
    } catch (error) {
      if (verdictOn(error) === 'refused' || signal.aborted || performance.now() > deadline) throw error
      log.warn({ error: (error as Error).message, retryInMs: pauseMs }, 'attempts.not_recorded')
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined) // ends the pause, not the last try
    }
  }
}

/**
 * Records attempts that are over, and what they say of their destination. Those that were recorded before, because the answer
 * was lost, say nothing again.
 */
async function end(sql: Sql, { name, limits }: Handler, finished: Finished[]): Promise<void> {
  if (finished.length === 0) return
  if (limits === undefined) return void (await recordAttempts(sql, finished))
  await sql.begin(async (transaction) => {
    const { destination, now } = await lockDestination(transaction, name)
    const ended = await recordAttempts(transaction, finished)
    if (ended.length === 0) return
    const after = settle(limits.breaker ?? false, destination, ended, now)
    await saveDestination(transaction, name, destination, after)
    await noteOutcomes(transaction, name, {
      hasSucceeded: ended.some(({ ok }) => ok),
      error: ended.findLast(({ ok }) => !ok)?.error,
    })
  })
}
