/** Makes something at its first use, and again after a failure, for what failed once never recovers. */
export function lazily<Thing>(make: () => Promise<Thing>): {
  get: () => Promise<Thing>
  /** What has been made or is being made, if anything. */
  current: () => Promise<Thing> | undefined
} {
  let making: Promise<Thing> | undefined
  return {
    get() {
      making ??= make().catch((error: unknown) => {
        making = undefined
        throw error
      })
      return making
    },
    current: () => making,
  }
}
