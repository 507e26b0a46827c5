import type { DeliveriesJob } from '@ringback/core/callback'
import type { Handler } from '@ringback/core/config'
import type { Logger } from '@ringback/core/log'
import { uuidArray } from '@ringback/core/store/connect'
import type { Sql, TransactionSql } from '@ringback/core/store/connect'

export interface ScanDependencies {
  sql: Sql
  handlers: readonly Handler[]
  enqueueDeliveries: (job: DeliveriesJob) => Promise<void>
  /** Runs a job without the queue, like a worker that takes it from the queue, but with the handler's next turn. */
  runDeliveries: (job: DeliveriesJob) => Promise<void>
  /** Resolves to how many deliveries jobs wait for a worker. */
  waitingJobs: () => Promise<number>
  /** Whether a handler has as many jobs in hand as this worker allows. */
  isFull: (handler: string) => boolean
  /** Called for dead letters that the scanner makes. */
  onDead: (handler: string, count: number) => void
  log: Logger
}

export interface Scanner {
  /** Enqueues what is due. Resolves to whether more may be due than it took. Never waits for a handler. */
  scan: () => Promise<{ more: boolean }>
  /** Waits for the jobs that it runs itself. */
  finish: () => Promise<void>
}

/** How many deliveries of each handler are taken at once, so that a backlog of one holds up no other. */
const BATCH = 250

/**
 * How much a job holds of events, by their own bytes, unless it is a single one: as much as the largest callback. With its
 * payload as text and as an object and what is sent of it, an event takes several times its bytes in a worker's memory.
 */
const MAX_JOB_BYTES = 1024 * 1024

/** With more jobs waiting than this, workers have enough to do, and what is due may be among them already. */
const ENOUGH_WAITING_JOBS = 1000

/**
 * The scanner: enqueues deliveries that are due and in nobody's hand. These are retries, what a crash left between
 * commit and enqueue, and attempts whose worker was not heard of again. Any number of workers may scan at once.
 *
 * While the queue does not accept them, or this worker has as many jobs of the handler in hand as it may, it runs them itself,
 * at most one job of each handler at a time: that bounds what it holds, and a slow handler delays no other. Such a job is next
 * in turn, so that new deliveries, which come one by one, do not keep what is due out for as long as they come. An add that
 * failed but was applied does no harm, because each attempt is claimed.
 */
export function createScanner(deps: ScanDependencies): Scanner {
  const { log } = deps
  /** By handler. */
  const ownRuns = new Map<string, Promise<void>>()

  function runHere(job: DeliveriesJob): void {
    const { handler } = job
    const run = deps
      .runDeliveries(job)
      // What it has not done is due again when the lease has run out.
      .catch((error: Error) => log.error({ handler, error: error.message }, 'job.failed'))
      .finally(() => ownRuns.delete(handler))
    ownRuns.set(handler, run)
  }

  return {
    async scan() {
      // Once the queue has failed, it is not tried again until the next scan: each try would take its time to fail.
      let failure: Error | undefined
      const waiting = await deps.waitingJobs().catch((error: Error) => void (failure = error))
      if (waiting !== undefined && waiting > ENOUGH_WAITING_JOBS) return { more: false }
      const { due, dead, isCut } = await takeDue({ ...deps, isInHand: (handler) => ownRuns.has(handler) })
      for (const { handler } of dead) deps.onDead(handler, 1)
      for (const [handler, own] of Map.groupBy(due, (delivery) => delivery.handler)) {
        const deliveries = own.map(({ id, attempts, receivedAt }) => ({
          id,
          attempt: String(attempts + 1),
          receivedAt,
        }))
        const job: DeliveriesJob = { version: '1', handler, deliveries }
        const isFull = deps.isFull(handler)
        if (failure === undefined && !isFull)
          await deps.enqueueDeliveries(job).catch((error: Error) => (failure = error))
        if (failure !== undefined)
          log.warn({ handler, count: own.length, error: failure.message }, 'deliveries.run_without_queue')
        if (failure !== undefined || isFull) runHere(job)
      }
      return { more: due.length >= BATCH || isCut }
    },
    finish: async () => void (await Promise.all(ownRuns.values())),
  }
}

interface Due {
  id: string
  handler: string
  attempts: number
  receivedAt: string
}

interface Found extends Due {
  attemptsAtReplay: number
  /** The size of its event. */
  bytes: number
}

/**
 * Leases due deliveries for half a minute; those that are not claimed by then are due again. Those whose last attempt was
 * abandoned become dead letters. Those whose attempt is being recorded at this moment are left alone.
 */
async function takeDue({
  sql,
  handlers,
  isInHand,
  log,
}: Pick<ScanDependencies, 'sql' | 'handlers' | 'log'> & { isInHand: (handler: string) => boolean }): Promise<{
  due: Due[]
  dead: Due[]
  /** Whether more of a handler is due than one job may hold. */
  isCut: boolean
}> {
  const names = handlers.map(({ name }) => name).filter((name) => !isInHand(name))
  return sql.begin(async (transaction) => {
    const found = await lockDue(transaction, names)
    if (found.length === 0) return { due: [], dead: [], isCut: false }
    const candidates = forOneJob(found)
    const { abandoned, recording } = await abandonAttempts(transaction, candidates)
    if (abandoned.size > 0) log.warn({ count: abandoned.size }, 'attempts.abandoned')
    const taken = candidates.filter(({ id }) => !recording.has(id))
    const isDead = (delivery: Found) => abandoned.has(delivery.id) && isLast(handlers, delivery)
    const due = taken.filter((delivery) => !isDead(delivery))
    const dead = taken.filter(isDead)
    await lease(transaction, due)
    if (dead.length > 0) await makeDead(transaction, dead)
    return { due, dead, isCut: taken.length > 0 && candidates.length < found.length }
  })
}

/**
 * What is due and in nobody's hand, from now on locked. Skips what another worker's scanner is taking at this moment.
 * Deliveries of the same time come in any order.
 */
function lockDue(transaction: TransactionSql, handlers: string[]): Promise<Found[]> {
  return transaction<Found[]>`
    select
      d.id, d.handler, d.attempts, d.attempts_at_replay as "attemptsAtReplay", d.event_received_at::text as "receivedAt",
      (select octet_length(raw) from events as e where e.id = d.event_id and e.received_at = d.event_received_at) as bytes
    from json_array_elements_text(${JSON.stringify(handlers)}::json) as handler
    cross join lateral (
      select *
      from deliveries
      where deliveries.handler = handler.value
        and status = 'pending'
        and next_attempt_at <= now()
        and (lease_until is null or lease_until < now())
      order by next_attempt_at
      limit ${BATCH}
      for update skip locked
    ) as d`
}

/** The first deliveries of each handler, as many as one job may hold. */
function forOneJob(found: readonly Found[]): Found[] {
  return [...Map.groupBy(found, ({ handler }) => handler).values()].flatMap((own) => {
    let total = 0
    return own.filter(({ bytes }, index) => (total += bytes) <= MAX_JOB_BYTES || index === 0)
  })
}

/**
 * Ends the attempts of these deliveries that nothing was heard of. Recording locks an attempt and then its delivery, so this,
 * which has the deliveries, waits for no attempt: one that is locked is being recorded at this moment.
 */
async function abandonAttempts(
  transaction: TransactionSql,
  deliveries: Due[],
): Promise<{ abandoned: Set<string>; recording: Set<string> }> {
  const unrecorded = transaction`
    from json_to_recordset(${JSON.stringify(deliveries)}::json) as d (id uuid, attempts integer, "receivedAt" timestamptz)
    join attempts as a on a.delivery_id = d.id and a.number = d.attempts and a.event_received_at = d."receivedAt"
    where a.delivery_id = any(${uuidArray(deliveries)}::text::uuid[]) and a.outcome is null`
  const abandoned = await transaction<{ id: string }[]>`
    with free as materialized (
      select a.delivery_id, a.number, a.event_received_at ${unrecorded} for update of a skip locked
    )
    update attempts as a
    set outcome = 'abandoned', duration_ms = extract(epoch from now() - a.started_at) * 1000
    from free
    where a.delivery_id = free.delivery_id and a.delivery_id = any(${uuidArray(deliveries)}::text::uuid[])
      and a.number = free.number and a.event_received_at = free.event_received_at
    returning a.delivery_id as id`
  const recording = await transaction<{ id: string }[]>`select a.delivery_id as id ${unrecorded}`
  return { abandoned: new Set(abandoned.map(({ id }) => id)), recording: new Set(recording.map(({ id }) => id)) }
}

async function lease(transaction: TransactionSql, deliveries: Due[]): Promise<void> {
  await transaction`
    update deliveries as d
    set lease_until = now() + interval '30 seconds', running = false
    from json_to_recordset(${JSON.stringify(deliveries)}::json) as l (id uuid, "receivedAt" timestamptz)
    where d.id = l.id and d.event_received_at = l."receivedAt" and d.id = any(${uuidArray(deliveries)}::text::uuid[])`
}

async function makeDead(transaction: TransactionSql, deliveries: Due[]): Promise<void> {
  await transaction`
    update deliveries as d
    set
      status = 'dead', next_attempt_at = null, lease_until = null, running = false, finished_at = now(),
      last_error = 'the last attempt was abandoned: its worker was not heard of again'
    from json_to_recordset(${JSON.stringify(deliveries)}::json) as l (id uuid, "receivedAt" timestamptz)
    where d.id = l.id and d.event_received_at = l."receivedAt" and d.id = any(${uuidArray(deliveries)}::text::uuid[])`
}

/** How many more attempts there are after an abandoned one: it may not even have begun, so it should not be the last. */
const MORE_AFTER_ABANDONED = 2

function isLast(handlers: readonly Handler[], { handler, attempts, attemptsAtReplay }: Found): boolean {
  const { retry } = handlers.find(({ name }) => name === handler)!
  return attempts - attemptsAtReplay >= retry.maxAttempts + MORE_AFTER_ABANDONED
}
