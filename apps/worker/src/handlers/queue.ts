import { HandlerError } from '@ringback/core/handlers'
import type { HandledEvent, HandlerContext, QueueAction } from '@ringback/core/handlers'
import { createFastClient } from '@ringback/core/queue/redis-client'
import { lazily } from '@ringback/core/lazily'
import { Queue } from 'bullmq'
import type { JobsOptions } from 'bullmq'
import { eventFields } from './event-fields.ts'
import type { Runner } from './runner.ts'
import { untilAborted } from './until-aborted.ts'

// Adds events as jobs to a BullMQ queue of the user's own, which is not the queue that Ringback itself works with.

/** Makes the runner that adds events to a user's queue. It connects for the first of them, and anew after a failure. */
export function createQueue(action: QueueAction): Runner {
  const connection = lazily(() => connect(action))
  return {
    timeoutMs: action.timeoutMs,
    needsRequest: false,
    run: (event, context) =>
      untilAborted(
        connection.get().then(({ queue }) => add(queue, action, event, context)),
        context.signal,
        action.timeoutMs,
      ),
    close: async () => (await connection.current())?.close(),
  }
}

interface Connection {
  queue: Queue
  close: () => Promise<void>
}

async function connect({ redisUrl, name, prefix, timeoutMs }: QueueAction): Promise<Connection> {
  const client = createFastClient(redisUrl, timeoutMs)
  client.on('error', () => {}) // what waits for it fails with the same error
  try {
    await client.connect()
    const queue = new Queue(name, {
      connection: client,
      skipMetasUpdate: true, // the queue's settings are its owner's
      ...(prefix !== undefined && { prefix }),
    })
    queue.on('error', () => {})
    await queue.waitUntilReady()
    return {
      queue,
      close: async () => {
        await queue.close()
        client.disconnect()
      },
    }
  } catch (error) {
    client.disconnect()
    throw failureOf(error)
  }
}

async function add(
  queue: Queue,
  { jobName, jobOptions }: QueueAction,
  event: HandledEvent,
  { idempotencyKey }: HandlerContext,
): Promise<void> {
  // BullMQ adds nothing if a job with this id exists, so an attempt that is repeated adds no second job.
  await queue
    .add(jobName ?? event.type, jobData(event), { ...jobOptions, jobId: idempotencyKey } as JobsOptions)
    .catch((error: unknown) => {
      throw failureOf(error)
    })
}

/** The data of the job: the event as `forward` sends it as JSON, except that integers beyond 2^53 are strings. */
export function jobData(event: HandledEvent): object {
  return { ...eventFields(event), payload: event.payload }
}

function failureOf(cause: unknown): HandlerError {
  const { code, message, name } = cause as NodeJS.ErrnoException
  // Redis's own message, such as NOAUTH; of other errors only the code, because their messages name hosts.
  const why = name === 'ReplyError' ? message : (code ?? name)
  return new HandlerError(`the job could not be added (${why})`, { retryable: true, cause })
}
