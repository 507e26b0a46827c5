/** `work`, or a rejection with `message` if it takes longer. */
export async function withTimeout<Result>(work: Promise<Result>, timeoutMs: number, message: string): Promise<Result> {
  let timer: NodeJS.Timeout | undefined
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(message)), timeoutMs)
  })
  try {
    return await Promise.race([work, timeout])
  } finally {
    clearTimeout(timer)
  }
}

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
