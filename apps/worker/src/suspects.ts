/** Groups that cannot be stored while others can. */
export interface Suspects {
  /** A group was stored. */
  onStored: (groupId: string) => void
  /** A group has failed all its tries. Returns how often that has happened to it in this worker. */
  onStuck: (groupId: string) => number
  /** Whether the group itself is to blame: it failed again and again, while enough others were stored. */
  isGuilty: (groupId: string) => boolean
}

/** Limit of remembered groups. Beyond it the oldest is forgotten, and starts without strikes. */
const MAX_SUSPECTS = 1000
const STRIKES = 5
const OTHERS_STORED = 5

/** Makes the suspects of one worker. They are in memory, so a restart forgets them. */
export function createSuspects(): Suspects {
  const suspects = new Map<string, { strikes: number; storedBefore: number }>()
  let stored = 0
  return {
    onStored(groupId) {
      stored += 1
      suspects.delete(groupId)
    },
    onStuck(groupId) {
      const suspect = suspects.get(groupId) ?? { strikes: 0, storedBefore: stored }
      suspect.strikes += 1
      suspects.set(groupId, suspect)
      if (suspects.size > MAX_SUSPECTS) suspects.delete(suspects.keys().next().value!)
      return suspect.strikes
    },
    isGuilty(groupId) {
      const suspect = suspects.get(groupId)
      return suspect !== undefined && suspect.strikes >= STRIKES && stored - suspect.storedBefore >= OTHERS_STORED
    },
  }
}
