// Decides, before anything is sent, which callbacks are sent, in which requests and in which order.

/** What was asked for; shares are of the callbacks, `drop` is of the requests. */
export interface PlanOptions {
  count: number
  batch: number
  duplicates: number
  forged: number
  stale: number
  drop: number
  reorder: boolean
  seed: number
  /** Whether each callback of a request carries a proof of its own, so that forged ones may stand beside genuine ones. */
  provesEach: boolean
}

export type CallbackKind = 'genuine' | 'duplicate' | 'forged' | 'stale'

export interface PlannedCallback {
  kind: CallbackKind
  /** Callbacks with the same number are the same callback, sent more than once. */
  content: number
}

export interface PlannedRequest {
  callbacks: PlannedCallback[]
  /** Whether the connection breaks in the middle of its first attempt. */
  dropped: boolean
}

/**
 * The requests in the order in which they are sent; the same for the same options. Throws if the shares of the callbacks add
 * up to more than all of them.
 */
export function planRequests(options: PlanOptions): PlannedRequest[] {
  const groups = groupByRequest(planCallbacks(options), options)
  const ordered = options.reorder ? shuffled(groups, options.seed) : groups
  return ordered.map((callbacks, index) => ({
    callbacks,
    dropped: shareOf(index + 1, options.drop) > shareOf(index, options.drop),
  }))
}

/**
 * As many callbacks of each kind as were asked for, evenly spread. A duplicate repeats one of the last thousand genuine
 * ones; if there is none before it, it is genuine itself.
 */
function planCallbacks({ count, duplicates, forged, stale }: PlanOptions): PlannedCallback[] {
  if (duplicates + forged + stale > 1 + ROUNDING) {
    throw new Error('--duplicates, --forged and --stale together are more than 100% of the callbacks')
  }
  const duplicateCount = Math.min(shareOf(count, duplicates), count - 1)
  const forgedCount = shareOf(count, forged)
  const staleCount = shareOf(count, stale)
  const genuineCount = count - duplicateCount - forgedCount - staleCount
  const kinds = [
    // A genuine one comes first, because there must be something to repeat.
    ...Array.from({ length: genuineCount }, (_, index) => ({ kind: 'genuine' as const, at: index / genuineCount })),
    ...spread('duplicate', duplicateCount),
    ...spread('forged', forgedCount),
    ...spread('stale', staleCount),
  ].toSorted((a, b) => a.at - b.at)

  const genuine: number[] = []
  return kinds.map(({ kind }, index): PlannedCallback => {
    if (kind === 'duplicate' && genuine.length > 0) {
      return { kind, content: genuine.at(-1 - (index % Math.min(1000, genuine.length)))! }
    }
    if (kind === 'forged' || kind === 'stale') return { kind, content: index }
    genuine.push(index)
    return { kind: 'genuine', content: index }
  })
}

function spread(kind: CallbackKind, length: number): { kind: CallbackKind; at: number }[] {
  return Array.from({ length }, (_, index) => ({ kind, at: (index + 1) / (length + 1) }))
}

/** Callbacks that are signed differently go into requests of their own, or genuine ones would be refused with them. */
function groupByRequest(
  callbacks: PlannedCallback[],
  { batch, provesEach }: Pick<PlanOptions, 'batch' | 'provesEach'>,
): PlannedCallback[][] {
  const requests: PlannedCallback[][] = []
  const open = new Map<CallbackKind, PlannedCallback[]>()
  for (const callback of callbacks) {
    const { kind } = callback
    const proof = kind === 'stale' || (kind === 'forged' && !provesEach) ? kind : 'genuine'
    let group = open.get(proof)
    if (group === undefined || group.length === batch) {
      group = []
      requests.push(group)
      open.set(proof, group)
    }
    group.push(callback)
  }
  return requests
}

/** How much of a share may be lost in binary. */
const ROUNDING = 1e-9

/** The share as a whole number. */
function shareOf(count: number, share: number): number {
  return Math.floor(count * share + ROUNDING)
}

/** Fisher and Yates' shuffle with a small generator of its own (mulberry32), so that an order can be repeated. */
function shuffled<Item>(items: Item[], seed: number): Item[] {
  const result = [...items]
  let state = seed
  const random = () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  for (let last = result.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1))
    ;[result[last], result[other]] = [result[other]!, result[last]!]
  }
  return result
}
