import { DelayedError } from 'bullmq'
import type { Job } from 'bullmq'

/**
 * Thrown by a processor to have the job again after `delayMs`, at most a minute, while others take their turn. It is no
 * failure.
 */
export class PostponedError extends Error {
  readonly delayMs: number

  constructor(message: string, delayMs: number) {
    super(message)
    this.delayMs = delayMs
  }
}

/** Runs `process` for BullMQ. If it throws a {@link PostponedError}, the job goes back into the queue for `delayMs`. */
export async function orPostpone(job: Job, token: string | undefined, process: () => Promise<void>): Promise<void> {
  try {
    await process()
  } catch (error) {
    if (!(error instanceof PostponedError)) throw error
    await job.moveToDelayed(Date.now() + error.delayMs, token)
    throw new DelayedError(error.message)
  }
}
