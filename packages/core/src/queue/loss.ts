// A server that has lost acknowledged writes (restarted empty, failed over to a replica that lacked them) does not say so.
// Each process therefore increments a counter of its own on the server: if the count has not grown, writes were lost.

/** How long a counter is kept that nobody increments. */
export const COUNTER_TTL_MS = 24 * 3_600_000

interface Count {
  count: number
  /** The server's time, in ms: by that the counter expires, even if only its clock was set ahead. */
  at: number
}

/**
 * Makes a function that increments this process's counter, and resolves to a sentence for people if `server` has lost writes
 * since its last call. `increment` resolves to the new count, or rejects, and so does the function.
 */
export function createLossDetector(
  server: 'Redis' | 'Postgres',
  increment: () => Promise<Count>,
): () => Promise<string | undefined> {
  let last: Count | undefined
  let asking: Promise<string | undefined> | undefined

  async function ask(): Promise<string | undefined> {
    const before = last
    const { count, at } = await increment()
    last = { count, at }
    // A count that has grown by more than one is no loss: increments whose answer did not arrive have counted too. After
    // half of its time to live the counter may simply have expired.
    if (before === undefined || count > before.count || at - before.at > COUNTER_TTL_MS / 2) return undefined
    return `${server} has lost writes: it had counted to ${before.count} for this process ${Math.round((at - before.at) / 1000)} s ago, and after that to ${count}: writes that it had acknowledged are gone`
  }

  return () => {
    // One at a time, or two answers could arrive in the wrong order.
    asking ??= ask().finally(() => {
      asking = undefined
    })
    return asking
  }
}

/**
 * Makes the function that calls `look` and resolves to the losses that it finds, as one sentence. One that is found after its
 * call was given up, or while another server does not answer, is told all the same: at once or by the next call.
 */
export function createTellLosses(
  look: (onLoss: (loss: string | undefined) => void) => Promise<unknown>,
): () => Promise<string | undefined> {
  /** Each once: calls that ask together find the same. */
  const untold = new Set<string>()

  function onLoss(loss: string | undefined): void {
    if (loss !== undefined) untold.add(loss)
  }

  return async () => {
    try {
      await look(onLoss)
    } catch (error) {
      if (untold.size === 0) throw error
    }
    const losses = [...untold]
    untold.clear()
    return losses.length > 0 ? losses.join('; ') : undefined
  }
}
