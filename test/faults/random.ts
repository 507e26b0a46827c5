import { createHash } from 'node:crypto'

/** Random numbers from a seed: the same seed gives the same faults at the same times. */
export interface Random {
  /** A number in [from, to). */
  between: (from: number, to: number) => number
  /** Whether something happens now that happens in this `share` of all cases. */
  chance: (share: number) => boolean
}

/** Mulberry32: 32 bits of state, which is plenty for choosing times. */
export function createRandom(seed: string): Random {
  let state = createHash('sha256').update(seed).digest().readUInt32LE()
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    between: (from, to) => from + next() * (to - from),
    chance: (share) => next() < share,
  }
}
