// A server that has lost acknowledged writes (restarted empty, failed over to a replica that lacked them) says nothing.
// Each process therefore counts on the server, and a count that does not grow tells.

/** How long a counter is kept that nobody increments. */
export const COUNTER_TTL_MS = 24 * 3_600_000

/** `increment` gives the new count of this process's own counter, or rejects. */
export function createLossDetector(
  increment: () => Promise<number>,
  now: () => number,
): () => Promise<string | undefined> {
  let last: { count: number; at: number } | undefined
  let asking: Promise<string | undefined> | undefined

  async function ask(): Promise<string | undefined> {
    const before = last
    const count = await increment()
    last = { count, at: now() }
    // More than one further is no loss: an increment whose answer did not arrive has counted all the same.
    if (before === undefined || count > before.count || last.at - before.at > COUNTER_TTL_MS / 2) return undefined
    return `it had counted to ${before.count} for this process ${Math.round((last.at - before.at) / 1000)} s ago, and after that to ${count}: writes that it had acknowledged are gone`
  }

  return () => {
    // One at a time, or two answers could arrive in the wrong order.
    asking ??= ask().finally(() => {
      asking = undefined
    })
    return asking
  }
}
