import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { createPlainClient } from './plain-client.ts'
import { quantile } from './statistics.ts'

// Sends requests at a fixed rate, whether earlier ones have been answered or not, and measures each from the moment when it
// was due: a request that waits behind a slow answer counts as slow too. Requests of the warm-up are not measured, because
// this process itself is slow until its code is compiled and its connections are made. It is a process of its own:
// `node open-loop.ts '{"url":…,"bodies":…,"skip":0,"rate":300,"warmUpSeconds":2,"seconds":4}'` prints one line of JSON.

interface Plan {
  url: string
  bodies: string
  skip: number
  /** Requests a second. */
  rate: number
  warmUpSeconds: number
  seconds: number
}

if (isMainThread) await sendAll(JSON.parse(process.argv[2]!) as Plan)
else tellWhenDue(workerData as { startAt: number; intervalMs: number; count: number })

/**
 * Tells the main thread up to which request they are due. Node's timers are late by up to a millisecond, as much as is to be
 * measured here; this thread sleeps to the microsecond.
 */
function tellWhenDue({ startAt, intervalMs, count }: { startAt: number; intervalMs: number; count: number }): void {
  const sleeper = new Int32Array(new SharedArrayBuffer(4))
  for (let due = 0; due < count;) {
    const sinceStartMs = performance.timeOrigin + performance.now() - startAt
    const waitMs = due * intervalMs - sinceStartMs
    if (waitMs > 0) Atomics.wait(sleeper, 0, 0, waitMs)
    else {
      due = Math.min(count, Math.floor(sinceStartMs / intervalMs) + 1)
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
      parentPort!.postMessage(due)
    }
  }
}

async function sendAll({ url, bodies, skip, rate, warmUpSeconds, seconds }: Plan): Promise<void> {
  const warmUp = Math.round(rate * warmUpSeconds)
  const count = warmUp + Math.round(rate * seconds)
  const lines = await linesOf(bodies, skip, count)
  const client = createPlainClient(new URL(url))
  const intervalMs = 1000 / rate
  const startAt = performance.timeOrigin + performance.now() + 100
  const pacer = new Worker(new URL(import.meta.url), { workerData: { startAt, intervalMs, count } })
  const timesMs: number[] = []
  let failed = 0

  async function send(index: number): Promise<void> {
    const dueAt = startAt + index * intervalMs - performance.timeOrigin
    const status = await client.post(lines[index]!).catch(() => 0)
    if (status !== 200) failed += 1
    else if (index >= warmUp) timesMs.push(performance.now() - dueAt)
  }

  const sendings: Promise<void>[] = []
  await new Promise<void>((resolve) => {
    pacer.on('message', (due: number) => {
      while (sendings.length < due) sendings.push(send(sendings.length))
      if (due === count) resolve()
    })
  })
  await Promise.all(sendings)
  client.close()
  const [p50Ms, p99Ms, p999Ms] = [0.5, 0.99, 0.999].map((q) => quantile(timesMs, q))
  console.log(JSON.stringify({ sent: count, failed, p50Ms, p99Ms, p999Ms }))
}

async function linesOf(path: string, skip: number, count: number): Promise<string[]> {
  const lines: string[] = []
  let number = 0
  const input = createReadStream(path)
  for await (const line of createInterface({ input })) {
    if (number++ >= skip) lines.push(line)
    if (lines.length === count) break
  }
  input.destroy()
  if (lines.length < count) throw new Error('There are not as many bodies as are to be sent')
  return lines
}
