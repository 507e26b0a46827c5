const MAX_KEYS = 1000

/**
 * Makes the function that lets something through once in `intervalMs` for each key. It returns how often the key was held back
 * since it was last let through, or undefined if it is held back now.
 */
export function createThrottle(intervalMs: number, now = () => performance.now()): (key: string) => number | undefined {
  const seen = new Map<string, { at: number; heldBack: number }>()
  return (key) => {
    const last = seen.get(key)
    if (last !== undefined && now() - last.at < intervalMs) {
      last.heldBack += 1
      return undefined
    }
    if (seen.size >= MAX_KEYS) seen.clear()
    seen.set(key, { at: now(), heldBack: 0 })
    return last?.heldBack ?? 0
  }
}
