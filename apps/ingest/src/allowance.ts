/** Whether one more refusal of `bytes` bytes from `source` may be kept; if so, it counts as kept. */
export type Allowance = (source: string, bytes: number) => boolean

/** What each source may put into quarantine, per process and minute. Beyond it refusals are only counted. */
export interface AllowanceLimits {
  items: number
  bytes: number
}

/** Enough to keep a minute of callbacks under a wrong secret, little enough that a flood of forgeries fills no queue. */
export const defaultAllowance: AllowanceLimits = { items: 600, bytes: 2 * 1024 * 1024 }

/** Makes the allowance of one process. `now` is in ms since 1970. */
export function createAllowance(limits: AllowanceLimits, now: () => number): Allowance {
  let minute = 0
  const used = new Map<string, { items: number; bytes: number }>()
  return (source, bytes) => {
    const current = Math.floor(now() / 60_000)
    if (current !== minute) {
      minute = current
      used.clear()
    }
    const spent = used.get(source) ?? { items: 0, bytes: 0 }
    if (spent.items + 1 > limits.items || spent.bytes + bytes > limits.bytes) return false
    used.set(source, { items: spent.items + 1, bytes: spent.bytes + bytes })
    return true
  }
}
