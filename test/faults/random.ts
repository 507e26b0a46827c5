import { createHash } from 'node:crypto'

/** Numbers that a seed decides: the same seed gives the same times of the same faults. */
export interface Random {
  /** In [from, to). */
  between: (from: number, to: number) => number
  /** Whether something that happens in that `share` of all cases happens now. */
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
