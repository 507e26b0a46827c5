import { HandlerError } from '@ringback/core/handlers'

/**
 * What becomes of `work`, unless `signal` fires first, as it does when the attempt is past its `timeoutMs`: then the
 * attempt has failed, is to be made again, and what comes of the work all the same does not count.
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
