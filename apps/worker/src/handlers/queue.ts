import { HandlerError } from '@ringback/core/handlers'
import type { HandledEvent, HandlerContext, QueueAction } from '@ringback/core/handlers'
import { createFastClient } from '@ringback/core/queue/redis-client'
import type { RedisClient } from '@ringback/core/queue/redis-client'
import { lazily } from '@ringback/core/lazily'
import { Queue } from 'bullmq'
import type { JobsOptions } from 'bullmq'
import { eventFields } from './event-fields.ts'
import type { Runner } from './runner.ts'
import { untilAborted } from './until-aborted.ts'

// Adds events as jobs to a BullMQ queue of the user's own, which is not the queue that Ringback itself works with.

/** Makes the runner that adds events to a user's queue. It connects for the first of them, and anew after a failure. */
export function createQueue(action: QueueAction): Runner {
  /** Connected or not. */
  let client: RedisClient | undefined
  const connection = lazily(() => {
    client = createFastClient(action.redisUrl, action.timeoutMs)
    return connect(client, action)
  })
  return {
    timeoutMs: action.timeoutMs,
    run: (event, context) =>
      untilAborted(
        connection.get().then((connected) => add(connected, action, event, context)),
        context.signal,
        action.timeoutMs,
      ),
    async close() {
      client?.disconnect() // first, because it asks sentinels that are down without end
      await (await connection.current())?.queue.close()
    },
  }
}

interface Connection {
  queue: Queue
  /** What its server or the way there objects to. Whatever waits for a connection fails without saying that. */
  problem: () => string | undefined
}

async function connect(client: RedisClient, { name, prefix }: QueueAction): Promise<Connection> {
  let problem: string | undefined
  client.on('error', (error) => (problem = reasonIn(error) ?? problem))
  client.on('connect', () => (problem = undefined))
  try {
    await client.connect()
    const queue = new Queue(name, {
      connection: client,
      skipMetasUpdate: true, // the queue's settings are its owner's
      ...(prefix !== undefined && { prefix }),
    })
    queue.on('error', () => {})
    await queue.waitUntilReady()
    return { queue, problem: () => problem }
  } catch (error) {
    client.disconnect()
    throw failureOf(error, problem)
  }
}

async function add(
  { queue, problem }: Connection,
  { jobName, jobOptions }: QueueAction,
  event: HandledEvent,
  { idempotencyKey }: HandlerContext,
): Promise<void> {
  // BullMQ adds nothing if a job with this id exists, so an attempt that is repeated adds no second job.
  await queue
    .add(jobName ?? event.type, jobData(event), { ...jobOptions, jobId: idempotencyKey } as JobsOptions)
    .catch((error: unknown) => {
      throw failureOf(error, problem())
    })
}

/** The data of the job: the event as `forward` sends it as JSON, except that integers beyond 2^53 are strings. */
export function jobData(event: HandledEvent): object {
  return { ...eventFields(event), payload: event.payload }
}

function failureOf(cause: unknown, problem: string | undefined): HandlerError {
  const why = reasonIn(cause) ?? problem ?? 'the connection was closed'
  return new HandlerError(`the job could not be added (${why})`, { retryable: true, cause })
}

/** Redis's own message, such as NOAUTH; of other errors only the code, because their messages name hosts. */
function reasonIn(error: unknown): string | undefined {
  const { name, message, code, lastNodeError } = error as NodeJS.ErrnoException & { lastNodeError?: Error }
  if (lastNodeError !== undefined) return reasonIn(lastNodeError)
  return name === 'ReplyError' ? message : code
}
