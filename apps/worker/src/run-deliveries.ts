import { setTimeout as sleep } from 'node:timers/promises'
import { DeliveriesJob } from '@ringback/core/callback'
import type { Config } from '@ringback/core/config'
import type { Sql } from '@ringback/core/store/connect'
import { claimDeliveries, deferDeliveries, renewLeases } from './deliveries-table.ts'
import type { Claimed, ClaimOptions, QueuedDelivery } from './deliveries-table.ts'
import { admit } from './destination.ts'
import { countRunning, lockDestination, saveDestination } from './destinations-table.ts'
import { createRunner } from './handlers/runner.ts'
import type { Runner } from './handlers/runner.ts'
import { finishEach, recordAsTheyEnd } from './record-attempts.ts'
import { runAttempt } from './run-attempt.ts'
import type { AttemptDependencies, Finished, OwnHandler } from './run-attempt.ts'
import { createTurns, MAX_ATTEMPTS } from './turns.ts'
import type { TurnLimits } from './turns.ts'

export interface RunDependencies extends AttemptDependencies {
  sql: Sql
  config: Pick<Config, 'sources' | 'handlers'>
  /** Fires when the process is to end: deliveries that have not begun are left to the next worker. */
  signal: AbortSignal
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
/** How long deliveries wait in Postgres after their job has failed, or has got no turn: then up to twice that, at random. */
const BUSY_WAIT_MS = 1000
/** How long a job in hand may wait for its destination: in all, and in one pause. Else its deliveries wait in Postgres. */
const MAX_WAIT_IN_HAND_MS = 10_000
const MAX_PAUSE_IN_HAND_MS = 1000
/** How much longer than its time limit an attempt is leased: half for the answer that it has begun, half to record it. */
const LEASE_MARGIN_MS = 5000

/** Makes the runner of every handler. */
export function createRunDeliveries(deps: RunDependencies): DeliveryRunner {
  const isAlertOver = async (id: string) =>
    (await deps.sql`select from alerts where id = ${id} and state = 'open'`).length === 0
  const { sources, handlers } = deps.config
  const ownHandlers = new Map<string, OwnHandler>(
    handlers.map((handler) => [handler.name, { handler, runner: createRunner(handler, { sources, isAlertOver }) }]),
  )
  const turns = createTurns(TURNS)
  let running = 0

  async function process(data: unknown, mayTake?: (ms: number) => void, goesFirst?: boolean): Promise<void> {
    const { handler: name, deliveries } = DeliveriesJob.parse(data)
    const own = ownHandlers.get(name)
    // Another version of the configuration may know the handler. What stays without one is buried by and by.
    if (own === undefined) return
    if (!(await turns.begin(name, goesFirst)))
      return deferDeliveries(deps.sql, deliveries, BUSY_WAIT_MS * (1 + deps.random()))
    try {
      await runAll(own, deliveries, mayTake)
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
      const attempts = leased.map((delivery) => counted(runAttempt(deps, own, delivery, signal)))
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
    close: async () => void (await Promise.all([...ownHandlers.values()].map(({ runner }) => runner.close()))),
  }
}

const leaseMs = ({ timeoutMs }: Runner) => timeoutMs + LEASE_MARGIN_MS

function claimOptions({ handler, runner }: OwnHandler): ClaimOptions {
  const { needsRequest = false } = runner
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
    if (claimed.length > 0) await saveDestination(transaction, name, admission.destination)
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
