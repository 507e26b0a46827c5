import type { JobType, Queue, QueueOptions } from 'bullmq'
import type { Logger } from '../log.ts'
import { queues } from './server.ts'
import type { QueueName } from './server.ts'

/** All the jobs of one queue, over its shards. */
export interface QueueState {
  waiting: number
  active: number
  /** How long the oldest waiting job has waited; 0 where there is none. */
  oldestAgeMs: number
  /** Whether somebody has paused the queue, or a shard of it, as dashboards of BullMQ can: nobody takes jobs there. */
  isPaused: boolean
}

export interface Producer<Data> {
  /**
   * Resolves when the job is as durable as the server's settings make it: with `appendfsync always` it is on disk, and
   * with `waitReplicas` also on that many replicas. Rejects within the time limit, and at once while the server is nearly
   * full (from 90 % of maxmemory until it is under 85 %). After a rejection the job may still have been added, even to
   * two shards, so its consumer must tolerate it twice.
   * @param id never used before, without ":" and not only digits (BullMQ's rules)
   */
  add: (id: string, data: Data) => Promise<void>
  /** Resolves if the server takes writes as `add` needs them, rejects otherwise, within the time limit. */
  probe: () => Promise<void>
  /** The part of its maxmemory that the server uses, of several the fullest; 0 where it has no maxmemory. */
  memoryUsage: () => Promise<number>
  /**
   * A sentence for people if the server has lost writes that it had acknowledged to this process. A loss is not seen if the
   * counter has passed its old value by the next call. Rejects if the server does not answer.
   */
  detectLoss: () => Promise<string | undefined>
  /** A name for the server's data. It changes when the server starts empty, or another takes its place. */
  identity: () => Promise<string>
  /** Jobs that wait for a consumer. */
  waiting: () => Promise<number>
  /** What waits and what is being processed, over all consumers. */
  state: () => Promise<QueueState>
  close: () => Promise<void>
}

export interface ProducerOptions {
  /** The time limit of each call. */
  timeoutMs: number
  log: Logger
}

/** BullMQ's options for a queue: the same on either backend. */
export function queueOptions(name: QueueName) {
  return {
    defaultJobOptions: {
      attempts: queues[name].maxAttempts,
      backoff: { type: 'fixed', delay: 1000 },
      // Nothing is left behind: a queue that keeps finished jobs fills its server.
      removeOnComplete: true,
      removeOnFail: true,
    },
    streams: { events: { maxLen: 10 } },
  } satisfies Omit<QueueOptions, 'connection'>
}

/** As what BullMQ counts jobs that wait in a paused queue in Postgres, though its types leave that out. */
const PAUSED = 'paused' as JobType

/** How many jobs wait, also of a queue that is paused. */
export function countWaiting(queue: Pick<Queue, 'getJobCountByTypes'>): Promise<number> {
  return queue.getJobCountByTypes('waiting', PAUSED)
}

/** The state of a queue. `oldestAddedAt` gives when its oldest waiting job was added, in ms since 1970, if one waits. */
export async function stateOf(
  queue: Pick<Queue, 'getJobCounts' | 'isPaused'>,
  oldestAddedAt: () => Promise<number | undefined>,
): Promise<QueueState> {
  const [{ waiting = 0, paused = 0, active = 0 }, addedAt, isPaused] = await Promise.all([
    queue.getJobCounts('waiting', PAUSED, 'active'),
    oldestAddedAt(),
    queue.isPaused(),
  ])
  const oldestAgeMs = addedAt === undefined ? 0 : Math.max(0, Date.now() - addedAt)
  return { waiting: waiting + paused, active, oldestAgeMs, isPaused }
}
