import { z } from 'zod'
import type { ConfigText } from '../config.ts'
import { checked, configText, timeoutMs } from '../checked-options.ts'
import type { ActionDefinition } from '../handlers.ts'
import { problemOf } from '../problem-of.ts'
import { parseRedisUrl } from '../queue/redis-url.ts'

// The action `queue`: an event goes to a BullMQ queue of the user's own. docs/handlers.md describes the options; apps/worker
// adds the jobs.

export interface QueueOptions {
  /** In any form that the variable REDIS_URL may have; that variable, if left out. */
  redisUrl?: ConfigText
  /** The queue's name. */
  name: string
  /** The jobs' name; the event's type where it is left out. */
  jobName?: string
  /** BullMQ's prefix of the queue's keys; `bull` where it is left out, as there. */
  prefix?: string
  /** BullMQ's options of the jobs. As with BullMQ itself, finished jobs are kept unless this says otherwise. */
  jobOptions?: QueueJobOptions
  /** Default 5 s. */
  timeoutMs?: number
}

/** The members of BullMQ's JobsOptions that can be set. */
export interface QueueJobOptions {
  attempts?: number | undefined
  backoff?: number | { type: string; delay?: number | undefined } | undefined
  delay?: number | undefined
  priority?: number | undefined
  lifo?: boolean | undefined
  removeOnComplete?: KeepJobs | undefined
  removeOnFail?: KeepJobs | undefined
}

type KeepJobs = boolean | number | { age: number; count?: number | undefined } | { count: number }

export interface QueueAction {
  kind: 'queue'
  redisUrl: string
  name: string
  jobName: string | undefined
  prefix: string | undefined
  jobOptions: QueueJobOptions
  timeoutMs: number
}

/**
 * Adds a job to a BullMQ queue of your own, on Redis: its data is the event. The job's id is the delivery's idempotency
 * key, so that an attempt that is repeated adds nothing as long as the job is kept.
 */
export function queue(options: QueueOptions): ActionDefinition {
  return {
    resolve: (resolve) => {
      const { name, jobName, prefix, jobOptions, timeoutMs, ...given } = checked(
        queueOptions,
        options,
        { name: '-' },
        resolve.problem,
      )
      const redisUrl = resolve.required('redisUrl', given.redisUrl)
      const problem = redisUrl === '' ? undefined : problemOf(() => parseRedisUrl(redisUrl))
      if (problem !== undefined) resolve.problem(`redisUrl ${problem}`)
      return { kind: 'queue', redisUrl, name, jobName, prefix, jobOptions, timeoutMs }
    },
  }
}

const kept = z.union([
  z.boolean(),
  z.int(),
  z.strictObject({ age: z.int().min(0), count: z.int().min(0).optional() }),
  z.strictObject({ count: z.int().min(0) }),
])

/** BullMQ refuses jobs with a larger one. */
const MAX_PRIORITY = 2 ** 21 - 1

const queueOptions = z.strictObject({
  redisUrl: configText.default({ fromEnvironment: 'REDIS_URL' }),
  name: z.string().regex(/^[^:]+$/, 'must be a text without ":", as BullMQ asks for'),
  jobName: z.string().min(1).optional(),
  prefix: z.string().min(1).optional(),
  jobOptions: z
    .strictObject({
      attempts: z.int().min(1).optional(),
      backoff: z
        .union([z.int().min(0), z.strictObject({ type: z.string(), delay: z.int().min(0).optional() })])
        .optional(),
      delay: z.int().min(0).optional(),
      priority: z.int().min(0).max(MAX_PRIORITY).optional(),
      lifo: z.boolean().optional(),
      removeOnComplete: kept.optional(),
      removeOnFail: kept.optional(),
    })
    .default({}),
  timeoutMs: timeoutMs.default(5000),
})
