// What has expired is deleted for good, so a clock that is ahead must not decide what that is.

const MOST_AHEAD_MS = 300_000
/** How long a clock that was set ahead is not believed: one that is wrong is mostly set right sooner. */
const DOUBT_MS = 3_600_000

/** Times in ms. */
interface Clocks {
  /** How far the database's clock is ahead of this machine's. */
  databaseAhead: number
  /** This machine's clock. */
  wall: number
  /** A clock that nobody sets. */
  monotonic: number
}

/** Makes the function that says why nothing is to be deleted at this moment, if there is a reason. Call it every minute. */
export function createClockCheck(): (clocks: Clocks) => string | undefined {
  let lastOffset = Infinity
  let setAheadAt = -Infinity

  return ({ databaseAhead, wall, monotonic }) => {
    const offset = wall - monotonic
    if (offset - lastOffset > MOST_AHEAD_MS) setAheadAt = monotonic
    lastOffset = offset
    if (databaseAhead > MOST_AHEAD_MS)
      return `the database's clock is ${Math.round(databaseAhead / 1000)} s ahead of this machine's`
    if (monotonic - setAheadAt < DOUBT_MS) return "this machine's clock was set ahead within the last hour"
    return undefined
  }
}
