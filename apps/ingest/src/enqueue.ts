import { randomUUIDv7 } from 'node:crypto'
import { setImmediate as setImmediatePromise } from 'node:timers/promises'
import { storeJob } from '@ringback/core/callback'
import type { GroupPart, StoreJob } from '@ringback/core/callback'
import type { Logger } from '@ringback/core/log'
import type { Producer } from '@ringback/core/queue'
import type { Spool } from '@ringback/core/spool'

// Group commit. While one group is on its way to the queue, the callbacks that arrive become the next group. When ingest is
// idle, a callback goes at once; under load, one job carries dozens of callbacks, which share its cost. While the queue is
// down, groups go to the spool.

export interface Enqueuer {
  /** Resolves when all `parts` are durable. Rejects, within the deadline, if they may not be. */
  enqueue: (parts: GroupPart[]) => Promise<void>
  /** Whether the queue has failed and not answered a probe since. */
  isQueueDown: () => boolean
  /** Rejects if nothing can be made durable at the moment. */
  probe: () => Promise<void>
  /** Waits for everything enqueued before. Nothing may be enqueued after this call. */
  close: () => Promise<void>
}

export interface EnqueueOptions {
  producer: Pick<Producer<StoreJob>, 'add' | 'probe' | 'close'>
  /** Where groups go while the queue is down. Without a spool, `enqueue` then rejects. */
  spool?: Pick<Spool, 'append' | 'probe'> | undefined
  log: Logger
  /** How long parts may wait until they are durable. */
  deadlineMs: number
  /** The producer's own time limit for one add. */
  addTimeoutMs: number
  /** Called with the size of each group that has become durable; canaries do not count. */
  onGroup?: (size: number) => void
  /** Makes UUIDv7s. */
  newId?: () => string
}

const MAX_PARTS_PER_GROUP = 500
const MAX_GROUP_BYTES = 1024 * 1024
/** How much may wait in memory. Beyond it the sender is told "later" at once, and need not wait to hear that. */
const MAX_PENDING_BYTES = 64 * 1024 * 1024
/** Up to this many parts go without waiting for more: hardly any others are to be expected. */
const FEW = 4
const MAX_GATHER_MS = 3
/** The length of a group id up to and including its time: a UUIDv7 begins with 48 bits of milliseconds. */
const GROUP_ID_TIME_LENGTH = 'group-00000000-0000'.length
/** How long after the last group a part goes at once: no others are expected to come with it. */
const PAUSE_MS = 5
const PROBE_INTERVAL_MS = 250
/** How often to look for parts that have waited past the deadline. */
const OVERDUE_INTERVAL_MS = 50
/** How long a sync of the spool may take on a busy disk. */
const SPOOL_RESERVE_MS = 150

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

/** Makes the enqueuer of a process. Its `close` closes the producer too, and leaves the spool to the caller. */
export function createEnqueuer({
  producer,
  spool,
  log,
  deadlineMs,
  addTimeoutMs,
  onGroup,
  newId = randomUUIDv7,
}: EnqueueOptions): Enqueuer {
  let pending: Pending[] = []
  let pendingBytes = 0
  let scheduled = false
  /** When the last group became durable or failed. */
  let endedAt = -Infinity
  let lastGroupId = ''
  /** The group that is on its way; empty where none is. */
  let travelling: Pending[] = []
  let overdueTimer: NodeJS.Timeout | undefined
  /** Why the queue takes nothing, from the first failure until a probe succeeds. */
  let outage: { cause: unknown; timer: NodeJS.Timeout } | undefined

  function enqueue(parts: GroupPart[]): Promise<void> {
    if (outage !== undefined && spool === undefined) return Promise.reject(outage.cause)
    if (pendingBytes > MAX_PENDING_BYTES) return Promise.reject(new Error('too much is waiting for the queue'))
    return new Promise((resolve, reject) => {
      const ticket = { remaining: parts.length, arrivedAt: performance.now(), resolve, reject }
      for (const part of parts) {
        pending.push({ part, ticket })
        pendingBytes += part.json.length
      }
      overdueTimer ??= setInterval(rejectOverdue, OVERDUE_INTERVAL_MS)
      schedule()
    })
  }

  function schedule(): void {
    if (scheduled || travelling.length > 0 || pending.length === 0) return
    const now = performance.now()
    if (now - endedAt > PAUSE_MS) return void send()
    scheduled = true
    gather(0, now + MAX_GATHER_MS)
  }

  // Except after a pause, a group is sent at the end of this turn of the event loop, so that requests that were read
  // together go together. If more than a few parts wait, it is sent after the first turn that brings no more: the answers
  // of one group leave together, so the requests that follow them arrive together too.
  function gather(counted: number, until: number): void {
    setImmediate(() => {
      const isGrowing = pending.length > counted && pending.length < MAX_PARTS_PER_GROUP
      if (pending.length > FEW && isGrowing && performance.now() < until) {
        gather(pending.length, until)
        return
      }
      scheduled = false
      void send()
    })
  }

  /**
   * Ids ascend in the order in which groups are sent, because workers store groups in the order of their ids. UUIDv7s of the
   * same millisecond do not ascend by themselves. After the clock has been set back, the next id is taken as it is.
   */
  function nextGroupId(): string {
    const before = lastGroupId
    do lastGroupId = `group-${newId()}`
    while (lastGroupId <= before && lastGroupId.startsWith(before.slice(0, GROUP_ID_TIME_LENGTH)))
    return lastGroupId
  }

  async function send(): Promise<void> {
    travelling = takeGroup()
    if (travelling.length > 0) await settle(travelling)
    travelling = []
    endedAt = performance.now()
    schedule()
  }

  /** Makes a group durable, and tells those who wait for it. */
  async function settle(group: Pending[]): Promise<void> {
    try {
      await makeDurable(nextGroupId(), storeJob(group.map(({ part }) => part)), group[0]!.ticket)
    } catch (cause) {
      for (const { ticket } of group) ticket.reject(cause)
      return
    }
    const size = group.filter(({ part }) => part.kind !== 'canary').length
    if (size > 0) onGroup?.(size)
    for (const { ticket } of group) {
      ticket.remaining -= 1
      if (ticket.remaining === 0) ticket.resolve()
    }
  }

  // Here callbacks become durable: the answer 200 leaves only after this function.
  async function makeDurable(id: string, job: StoreJob, oldest: Ticket): Promise<void> {
    if (outage === undefined && (spool === undefined || hasTimeForQueue(oldest))) {
      try {
        return await producer.add(id, job)
      } catch (cause) {
        startOutage(cause)
        if (spool === undefined) throw cause
      }
    }
    // The id stays the same: an add that failed may still have been applied, and the worker stores an id only once.
    await spool!.append({ id, at: Date.now(), job })
  }

  /** Whether the queue may be tried: should it not answer, there must be time left before the deadline to write to the spool. */
  function hasTimeForQueue({ arrivedAt }: Ticket): boolean {
    return performance.now() - arrivedAt < deadlineMs - addTimeoutMs - SPOOL_RESERVE_MS
  }

  function takeGroup(): Pending[] {
    let bytes = 0
    let count = 0
    // At least one: a part that is larger than a group is a group of its own.
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

  /** Rejects parts at their deadline, whatever the queue and the disk do. Those on their way may still become durable. */
  function rejectOverdue(): void {
    if (pending.length === 0 && travelling.length === 0) {
      clearInterval(overdueTimer)
      overdueTimer = undefined
      return
    }
    const latestArrival = performance.now() - deadlineMs
    const firstInTime = pending.findIndex(({ ticket }) => ticket.arrivedAt > latestArrival)
    const overdue = take(firstInTime === -1 ? pending.length : firstInTime)
    for (const { ticket } of [...overdue, ...travelling]) {
      if (ticket.arrivedAt <= latestArrival) ticket.reject(new Error('nothing was durable before the deadline'))
    }
  }

  // After one failure nothing is added until a probe succeeds. So no other request waits for a time-out of its own, and a
  // frozen queue server does not find a heap of jobs when it thaws.
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
    if (spool === undefined) for (const { ticket } of take(pending.length)) ticket.reject(cause)
  }

  async function probe(): Promise<void> {
    try {
      if (outage !== undefined) throw outage.cause
      await producer.probe()
    } catch (cause) {
      if (spool === undefined) throw cause
      await spool.probe()
    }
  }

  return {
    enqueue,
    isQueueDown: () => outage !== undefined,
    probe,
    async close() {
      while (pending.length > 0 || travelling.length > 0) await setImmediatePromise()
      clearInterval(outage?.timer)
      clearInterval(overdueTimer)
      await producer.close()
    },
  }
}
