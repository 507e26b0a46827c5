import { HandlerError } from '@ringback/core/handlers'

/**
 * Settles as `work` does, unless `signal` fires first, as it does after the attempt's `timeoutMs`. Then it rejects with a
 * HandlerError that is retryable, and whatever still comes of the work does not count.
 */
export async function untilAborted(work: Promise<void>, signal: AbortSignal, timeoutMs: number): Promise<void> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(new HandlerError(`not done within ${timeoutMs} ms`, { retryable: true }))
  if (signal.aborted) onAbort()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
