import { withTimeout } from '@ringback/core/with-timeout'

/**
 * Makes the function that tells whether every part answers within `timeoutMs`. A part that has not answered is not asked
 * again until it does: however often this is called, nothing piles up behind a server that is frozen.
 */
export function createReady(parts: readonly (() => Promise<unknown>)[], timeoutMs: number): () => Promise<boolean> {
  const asks = parts.map(askOnce)
  return () =>
    withTimeout(Promise.all(asks.map((ask) => ask())), timeoutMs, 'not ready in time').then(
      (answers) => answers.every(Boolean),
      () => false,
    )
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
