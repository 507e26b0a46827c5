import type { QueuedDrop } from '@ringback/core/callback'
import type { Counts } from './counts.ts'

/** Makes the function that counts a refusal that is not kept. */
export function createCountDropped(
  counts: Pick<Counts<QueuedDrop>, 'entry'>,
): (source: string, reason: string) => void {
  return (source, reason) => {
    const drop = counts.entry(`${source} ${reason}`, () => ({ source, reason, count: 0 }))
    if (drop !== undefined) drop.count += 1
  }
}
