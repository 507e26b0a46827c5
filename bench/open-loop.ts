import { createReadStream } from 'node:fs'
import { Agent, request } from 'node:http'
import { createInterface } from 'node:readline'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { quantile } from './statistics.ts'

// Sends requests at a fixed rate, whether the ones before have been answered or not, and measures each from the moment
// at which it was due: what waits behind a slow answer counts as slow itself. A process of its own:
// `node open-loop.ts '{"url":…,"bodies":…,"skip":0,"rate":300,"seconds":4}'` prints one line of JSON.

interface Plan {
  url: string
  bodies: string
  skip: number
  /** Requests a second. */
  rate: number
  seconds: number
}

if (isMainThread) await sendAll(JSON.parse(process.argv[2]!) as Plan)
else tellWhenDue(workerData as { startAt: number; intervalMs: number; count: number })

/** Timers of Node are late by up to a millisecond, which is what is to be measured; this thread sleeps to the microsecond. */
function tellWhenDue({ startAt, intervalMs, count }: { startAt: number; intervalMs: number; count: number }): void {
  const sleeper = new Int32Array(new SharedArrayBuffer(4))
  for (let index = 0; index < count; index++) {
    const waitMs = startAt + index * intervalMs - performance.timeOrigin - performance.now()
    if (waitMs > 0) Atomics.wait(sleeper, 0, 0, waitMs)
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, not a window
    parentPort!.postMessage(index)
  }
}

async function sendAll({ url, bodies, skip, rate, seconds }: Plan): Promise<void> {
  const count = Math.round(rate * seconds)
  const lines = await linesOf(bodies, skip, count)
  const agent = new Agent({ keepAlive: true, maxSockets: 256 })
  const intervalMs = 1000 / rate
  const startAt = performance.timeOrigin + performance.now() + 100
  const pacer = new Worker(new URL(import.meta.url), { workerData: { startAt, intervalMs, count } })
  const timesMs: number[] = []
  let failed = 0

  await new Promise<void>((resolve) => {
    let ended = 0
    const end = () => {
      ended += 1
      if (ended === count) resolve()
    }
    pacer.on('message', (index: number) => {
      const dueAt = startAt + index * intervalMs - performance.timeOrigin
      const body = lines[index]!
      const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) }
      const outgoing = request(url, { method: 'POST', agent, headers, timeout: 10_000 }, (response) => {
        timesMs.push(performance.now() - dueAt)
        if (response.statusCode !== 200) failed += 1
        response.resume().on('end', end)
      })
      outgoing.on('timeout', () => outgoing.destroy())
      outgoing.on('error', () => {
        failed += 1
        end()
      })
      outgoing.end(body)
    })
  })
  agent.destroy()
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
