/** A clock that jumps from one event to the next. Times are in seconds. */
export interface Timeline {
  now: () => number
  after: (seconds: number, what: () => void) => void
  /** Runs until nothing is left to happen. */
  run: () => void
}

interface Entry {
  at: number
  /** The order in which events were planned: of two at the same time, the one planned first comes first. */
  order: number
  what: () => void
}

/** Makes a timeline that begins at 0. */
export function createTimeline(): Timeline {
  const heap: Entry[] = []
  let now = 0
  let order = 0

  const isBefore = (a: Entry, b: Entry) => a.at < b.at || (a.at === b.at && a.order < b.order)

  function push(entry: Entry): void {
    let index = heap.push(entry) - 1
    while (index > 0) {
      const parent = (index - 1) >> 1
      if (!isBefore(entry, heap[parent]!)) break
      heap[index] = heap[parent]!
      index = parent
    }
    heap[index] = entry
  }

  function pop(): Entry | undefined {
    const first = heap[0]
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return first
    let index = 0
    for (;;) {
      let child = 2 * index + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1
      if (!isBefore(heap[child]!, last)) break
      heap[index] = heap[child]!
      index = child
    }
    heap[index] = last
    return first
  }

  return {
    now: () => now,
    after: (seconds, what) => push({ at: now + seconds, order: order++, what }),
    run() {
      for (let entry = pop(); entry !== undefined; entry = pop()) {
        now = entry.at
        entry.what()
      }
    },
  }
}

/** Makes a generator of numbers from 0 to 1 (mulberry32). The same seed gives the same numbers. */
export function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let value = Math.imul(state ^ (state >>> 15), 1 | state)
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32
  }
}
