/** Settles as `work` does, or rejects with `message` after `timeoutMs`. The work itself goes on. */
export function withTimeout<Result>(work: Promise<Result>, timeoutMs: number, message: string): Promise<Result> {
  return new Promise((resolve, reject) => {
    // A process that was itself held up first reads what has come meanwhile.
    const timer = setTimeout(() => setImmediate(() => reject(new Error(message))), timeoutMs)
    work.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
