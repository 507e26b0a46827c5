/** Groups that cannot be stored while others can. */
export interface Suspects {
  /** A group was stored. */
  onStored: (groupId: string) => void
  /** A group had its tries, in vain; how often that has happened to it here. */
  onStuck: (groupId: string) => number
  /** Whether the group itself is to blame: it failed again and again, while enough others were stored. */
  isGuilty: (groupId: string) => boolean
}

/** Beyond that many the oldest is forgotten, and has its strikes again. */
const MAX_SUSPECTS = 1000
const STRIKES = 5
const OTHERS_STORED = 5

/** For one worker, in memory: each has its own suspects, and a restart forgets them. */
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
