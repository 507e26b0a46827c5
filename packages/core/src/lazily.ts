/** Something that is made at its first use. */
export interface Lazy<Thing> {
  get: () => Promise<Thing>
  /** What has been made or is being made; undefined if nothing is, or making it fails. Never rejects. */
  current: () => Promise<Thing | undefined>
}

/** Makes something at its first use, and again after a failure, for what failed once never recovers. */
export function lazily<Thing>(make: () => Promise<Thing>): Lazy<Thing> {
  let making: Promise<Thing> | undefined
  return {
    get() {
      making ??= make().catch((error: unknown) => {
        making = undefined
        throw error
      })
      return making
    },
    current: async () => making?.catch(() => undefined),
  }
}
