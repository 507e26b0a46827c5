/**
 * Runs a command that starts processes, and ends them when it is over, fails or is stopped by SIGINT or SIGTERM. A
 * failure is printed as one line. `command` resolves to whether all was well.
 */
export async function runCommand(command: (stopping: AbortSignal) => Promise<boolean>): Promise<void> {
  const stopping = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stopping.abort())
  try {
    if (!(await command(stopping.signal))) process.exitCode = 1
  } catch (error) {
    console.error(error instanceof Error ? error.message : error)
    process.exitCode = 1
  }
}
