/**
 * Runs a benchmark, and ends what it started when it is over, fails or is stopped by SIGINT or SIGTERM. A failure is
 * printed as one line.
 */
export async function runBench(bench: (resources: AsyncDisposableStack) => Promise<void>): Promise<void> {
  const resources = new AsyncDisposableStack()
  let ending: Promise<void> | undefined
  const end = () => (ending ??= resources.disposeAsync())
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => void end().finally(() => process.exit(130)))
  }
  try {
    await bench(resources)
  } catch (error) {
    // What fails while everything is being ended fails because of that.
    if (ending === undefined) {
      console.error(error instanceof Error ? error.message : error)
      process.exitCode = 1
    }
  } finally {
    await end()
  }
}
