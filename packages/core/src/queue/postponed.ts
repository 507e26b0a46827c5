import { DelayedError } from 'bullmq'
import type { Job } from 'bullmq'

/** Thrown by a processor: the job is to come again after a time, while others have their turn. It is no failure. */
export class PostponedError extends Error {
  readonly delayMs: number

  constructor(message: string, delayMs: number) {
    super(message)
    this.delayMs = delayMs
  }
}

/** Runs `process` for BullMQ; what it postpones is put back into the queue, from where it comes after its time. */
export async function orPostpone(job: Job, token: string | undefined, process: () => Promise<void>): Promise<void> {
  try {
    await process()
  } catch (error) {
    if (!(error instanceof PostponedError)) throw error
    await job.moveToDelayed(Date.now() + error.delayMs, token)
    throw new DelayedError(error.message)
  }
}
