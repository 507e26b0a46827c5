import { randomUUIDv7 } from 'node:crypto'
import { setImmediate as setImmediatePromise } from 'node:timers/promises'
import { storeJob } from '@ringback/core/callback'
import type { GroupPart, QueuedDrop, StoreJob } from '@ringback/core/callback'
import type { Logger } from '@ringback/core/log'
import type { Producer } from '@ringback/core/queue'
import { createCounts } from './counts.ts'

// Group commit. While one job is on its way to the queue, what arrives gathers, and goes as the next job: idle, a
// callback goes at once; loaded, one job carries dozens and its cost is shared between them.

/** Makes parts durable. */
interface Enqueue {
  /** Resolves when all `parts` are durable. Rejects, within the deadline, if they may not be. */
  (parts: GroupPart[]): Promise<void>
}

export interface Enqueuer {
  enqueue: Enqueue
  /** Counts a refusal that is not kept. The counts follow within about a second. */
  countDropped: (source: string, reason: string) => void
  /** Rejects if nothing can be made durable just now. */
  probe: () => Promise<void>
  /** Waits for what is on its way. Nothing may be enqueued any more. */
  close: () => Promise<void>
}

export interface EnqueueOptions {
  producer: Pick<Producer<StoreJob>, 'add' | 'probe' | 'close'>
  log: Logger
  /** From the arrival of parts to the answer. */
  deadlineMs: number
  /** The producer's own time limit. */
  addTimeoutMs: number
  /** Told of each group that has become durable. */
  onGroup?: (size: number) => void
}

const MAX_PARTS_PER_GROUP = 500
const MAX_GROUP_BYTES = 1024 * 1024
/** What may wait in memory: past it, answering "later" at once is kinder than making the sender wait for it. */
const MAX_PENDING_BYTES = 64 * 1024 * 1024
/** So few go at once: nobody waits for company where there is none to come. */
const FEW = 4
const MAX_GATHER_MS = 3
const PROBE_INTERVAL_MS = 250
const DROPPED_INTERVAL_MS = 1000

interface Pending {
  part: GroupPart
  ticket: Ticket
}

/** One call of enqueue, whose parts may travel in several groups. */
interface Ticket {
  remaining: number
  arrivedAt: number
  resolve: () => void
  reject: (cause: unknown) => void
}

export function createEnqueuer({ producer, log, deadlineMs, addTimeoutMs, onGroup }: EnqueueOptions): Enqueuer {
  let pending: Pending[] = []
  let pendingBytes = 0
  let inFlight: Promise<void> | undefined
  let scheduled = false
  /** Why the queue takes nothing, from the first failure until a probe succeeds. */
  let outage: { cause: unknown; timer: NodeJS.Timeout } | undefined
  const drops = createCounts<QueuedDrop>({
    kind: 'dropped',
    intervalMs: DROPPED_INTERVAL_MS,
    add: producer.add.bind(producer),
    log,
  })

  function countDropped(source: string, reason: string): void {
    const drop = drops.entry(`${source} ${reason}`, () => ({ source, reason, count: 0 }))
    if (drop !== undefined) drop.count += 1
  }

  function enqueue(parts: GroupPart[]): Promise<void> {
    if (outage !== undefined) return Promise.reject(outage.cause)
    if (pendingBytes > MAX_PENDING_BYTES) return Promise.reject(new Error('too much is waiting for the queue'))
    return new Promise((resolve, reject) => {
      const ticket = { remaining: parts.length, arrivedAt: performance.now(), resolve, reject }
      for (const part of parts) {
        pending.push({ part, ticket })
        pendingBytes += part.json.length
      }
      schedule()
    })
  }

  function schedule(): void {
    if (scheduled || inFlight !== undefined || pending.length === 0) return
    scheduled = true
    gather(0, performance.now() + MAX_GATHER_MS)
  }

  // A job goes at the end of this turn of the event loop, so that requests which were read together go together. Where
  // several wait, it goes when a turn has brought no more: the answers of one job leave together, so that the requests
  // after them come together too.
  function gather(counted: number, until: number): void {
    setImmediate(() => {
      const isGrowing = pending.length > counted && pending.length < MAX_PARTS_PER_GROUP
      if (pending.length > FEW && isGrowing && performance.now() < until) {
        gather(pending.length, until)
        return
      }
      scheduled = false
      inFlight = flush().finally(() => {
        inFlight = undefined
        schedule()
      })
    })
  }

  async function flush(): Promise<void> {
    rejectOverdue()
    const group = takeGroup()
    if (group.length === 0) return
    try {
      // Here callbacks become durable: the answer 200 leaves only after this line.
      await producer.add(`group-${randomUUIDv7()}`, storeJob(group.map(({ part }) => part)))
    } catch (cause) {
      for (const { ticket } of group) ticket.reject(cause)
      startOutage(cause)
      return
    }
    onGroup?.(group.length)
    for (const { ticket } of group) {
      ticket.remaining -= 1
      if (ticket.remaining === 0) ticket.resolve()
    }
  }

  function takeGroup(): Pending[] {
    let bytes = 0
    let count = 0
    // Always one: what is larger than a group is a group of its own.
    while (count < pending.length && count < MAX_PARTS_PER_GROUP) {
      bytes += pending[count]!.part.json.length
      if (bytes > MAX_GROUP_BYTES && count > 0) break
      count += 1
    }
    return take(count)
  }

  function take(count: number): Pending[] {
    const taken = pending.slice(0, count)
    pending = pending.slice(count)
    for (const { part } of taken) pendingBytes -= part.json.length
    return taken
  }

  /** What could not be durable before its deadline, should the next job take as long as it may. */
  function rejectOverdue(): void {
    const latestArrival = performance.now() - (deadlineMs - addTimeoutMs)
    const firstInTime = pending.findIndex(({ ticket }) => ticket.arrivedAt >= latestArrival)
    const overdue = take(firstInTime === -1 ? pending.length : firstInTime)
    for (const { ticket } of overdue) ticket.reject(new Error('the queue is too slow to keep the deadline'))
  }

  // After one failure everything fails at once instead of waiting for its own: senders try again sooner, and a frozen
  // queue server does not find a heap of jobs when it thaws.
  function startOutage(cause: unknown): void {
    log.error({ error: (cause as Error).message, waiting: pending.length }, 'queue.unavailable')
    const timer = setInterval(async () => {
      try {
        await producer.probe()
      } catch {
        return
      }
      if (outage?.timer !== timer) return
      clearInterval(timer)
      outage = undefined
      log.info('queue.available')
    }, PROBE_INTERVAL_MS)
    outage = { cause, timer }
    for (const { ticket } of take(pending.length)) ticket.reject(cause)
  }

  return {
    enqueue,
    countDropped,
    probe: () => (outage === undefined ? producer.probe() : Promise.reject(outage.cause)),
    async close() {
      while (pending.length > 0 || scheduled || inFlight !== undefined) await setImmediatePromise()
      clearInterval(outage?.timer)
      await drops.close()
      await producer.close()
    },
  }
}
