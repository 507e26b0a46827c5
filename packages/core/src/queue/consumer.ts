import { setTimeout as sleep } from 'node:timers/promises'
import type { Job, Worker, WorkerOptions } from 'bullmq'
import type { Logger } from '../log.ts'
import { BLOCK_SECONDS } from './redis-client.ts'
import { inRounds } from './rounds.ts'
import type { RoundOptions } from './rounds.ts'
import { UNLIMITED } from './server.ts'
import type { QueueName } from './server.ts'

export interface Consumer {
  /** Finishes the jobs in hand, then closes the connections. Takes as long as the jobs do. */
  close: () => Promise<void>
}

/** A job as a processor sees it. */
export interface QueueJob {
  id: string
  /** As it was added. Check it: an older or newer version of Ringback may have added it. */
  data: unknown
  /** How often a process that had it in hand has died, or has not renewed its lock for 3 s. */
  stalls?: number
}

export interface ConsumerOptions {
  /** How many jobs, or rounds of jobs, are processed at a time, over all shards; each shard has at least one. */
  concurrency: number
  log: Logger
  /** Ends a start that waits for the server. */
  stopping: AbortSignal
}

type Process = (job: QueueJob) => Promise<void>
/** How jobs are processed: one by one, or in rounds of as many as are waiting. */
export type Work = Process | RoundOptions

/** The pause before a server that answers but refuses (full, read-only, its disk full) is asked again. */
const REFUSED_PAUSE_MS = 250
const FINISH_DEADLINE_MS = 10_000
const FORCED_CLOSE_MS = 1000

const settings = {
  autorun: false,
  // A killed worker's jobs are taken up by another within 2 to 4 s.
  lockDuration: 3000,
  stalledInterval: 1000,
  maxStalledCount: UNLIMITED,
  drainDelay: BLOCK_SECONDS,
  // The pause after a refused connection; 15 s by default.
  runRetryDelay: 1000,
} satisfies Omit<WorkerOptions, 'connection'>

const steady = (Base: typeof Worker) =>
  class extends Base {
    // After a failed wait BullMQ sets no limit to the next one, which on Redis means 10 s and on Postgres an hour.
    protected override getBlockTimeout(blockUntil: number): number {
      return Math.min(super.getBlockTimeout(blockUntil), BLOCK_SECONDS)
    }

    // Without a pause BullMQ would ask again at once, thousands of times a second.
    protected override async moveToActive(...args: Parameters<Worker['moveToActive' & keyof Worker]>): Promise<Job> {
      try {
        return await super.moveToActive(...(args as [string, string]))
      } catch (error) {
        await sleep(REFUSED_PAUSE_MS)
        throw error
      }
    }
  }

/** Returns a function that makes workers on one backend, all with our settings; one that is made does not run yet. */
export function workersOn(Base: typeof Worker) {
  const Steady = steady(Base)
  const InRounds = inRounds(Steady)
  return (
    name: QueueName,
    work: Work,
    ownOptions: Omit<WorkerOptions, keyof typeof settings>,
    log: Logger,
    onError: (error: Error) => void,
  ): Worker => {
    const options = { ...settings, ...ownOptions }
    const worker =
      typeof work === 'function' ? new Steady(name, toProcessor(work), options) : new InRounds(name, work, options)
    return worker
      .on('error', onError)
      .on('failed', (job, { message }) => log.error({ queue: name, jobId: job?.id, error: message }, 'job.failed'))
  }
}

const toProcessor = (process: Process) => (job: Job) =>
  process({ id: job.id!, data: job.data, stalls: job.stalledCounter })

/** Finishes the jobs in hand, unless the server is down: then none can be finished, and another worker runs them again. */
export async function closeWorker(worker: Worker, serverIsThere: boolean): Promise<void> {
  if (serverIsThere) await Promise.race([worker.close(), sleep(FINISH_DEADLINE_MS, undefined, { ref: false })])
  // On a dead connection Postgres never answers the good-bye, hence the limit.
  await Promise.race([worker.close(true), sleep(FORCED_CLOSE_MS, undefined, { ref: false })])
}
