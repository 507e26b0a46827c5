/** Members that take turns. One that is left out is probed, and comes back when its probe succeeds. */
export interface Rotation<Member> {
  /**
   * Those to try, in this order: one turn further each time, without those left out, unless that leaves none. After the
   * first comes the one opposite, because neighbours may be on the same server.
   */
  next: () => Member[]
  leaveOut: (member: Member) => void
  takeBack: (member: Member) => void
  /** Ends the probing. */
  close: () => void
}

const PROBE_INTERVAL_MS = 500

export function createRotation<Member>(
  members: readonly Member[],
  probe: (member: Member) => Promise<void>,
): Rotation<Member> {
  const leftOut = new Set<Member>()
  /** Where the one opposite the first is among the others. */
  const opposite = Math.max(0, Math.floor(members.length / 2) - 1)
  let turn = 0
  let probing: NodeJS.Timeout | undefined

  const takeBack = (member: Member) => void leftOut.delete(member)

  function stopProbing(): void {
    clearInterval(probing)
    probing = undefined
  }

  function probeAll(): void {
    if (leftOut.size === 0) stopProbing()
    for (const member of leftOut) {
      probe(member).then(
        () => takeBack(member),
        () => {},
      )
    }
  }

  return {
    next() {
      turn = (turn + 1) % members.length
      const [first, ...others] = [...members.slice(turn), ...members.slice(0, turn)]
      const inTurn = [first!, ...others.slice(opposite), ...others.slice(0, opposite)]
      const present = inTurn.filter((member) => !leftOut.has(member))
      return present.length > 0 ? present : inTurn
    },
    leaveOut(member) {
      leftOut.add(member)
      probing ??= setInterval(probeAll, PROBE_INTERVAL_MS).unref()
    },
    takeBack,
    close: stopProbing,
  }
}
