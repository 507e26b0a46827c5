import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Makes the function that tells whether every part answers within `timeoutMs`. A part that has not answered is not asked
 * again until it does: however often this is called, nothing piles up behind a server that is frozen.
 */
export function createReady(parts: readonly (() => Promise<unknown>)[], timeoutMs: number): () => Promise<boolean> {
  const asks = parts.map(askOnce)
  return async () => {
    const waited = new AbortController()
    const late = sleep(timeoutMs, false, { signal: waited.signal }).catch(() => false)
    const answers = Promise.all(asks.map((ask) => ask())).then((all) => all.every(Boolean))
    const isReady = await Promise.race([answers, late])
    waited.abort()
    return isReady
  }
}

function askOnce(part: () => Promise<unknown>): () => Promise<boolean> {
  let asked: Promise<boolean> | undefined
  return () => {
    asked ??= part()
      .then(
        () => true,
        () => false,
      )
      .finally(() => (asked = undefined))
    return asked
  }
}
