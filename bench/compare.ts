import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { writeBodies } from './callbacks.ts'
import { cpuTimeUs } from './cpu-time.ts'
import { ringback, startDesign } from './designs.ts'
import type { Design, RunningDesign } from './designs.ts'
import { sendLoad } from './load.ts'
import { measureIdle } from './measure-idle.ts'
import { runBench } from './run-bench.ts'
import { startServers } from './servers.ts'
import type { Servers } from './servers.ts'
import { medianAndSpread } from './statistics.ts'

// node bench/compare.ts <checkout> <checkout> ...
//
// What a change does to ingest: CPU of a request under load, and the answer to one that comes alone. Under load the
// checkouts run at the same time, each with senders of its own, so that whatever else the machine does meets all of them
// alike: the medians of two copies of one version differ by 2 or 3 %, where runs one after another differ by 10. Idle, they
// take turns, and two copies may differ by 0.08 ms.

/** Each in fresh processes. */
const ROUNDS = 4
/** In each round, after one to warm up. */
const RUNS = 4
const SECONDS = 3
const CONNECTIONS = 32
const IDLE_ROUNDS = 3
/** Beyond what one of several ingests can answer. */
const MOST_REQUESTS_PER_SECOND = 40_000

await runBench(async (resources) => {
  const designs = process.argv.slice(2).map(designAt)
  if (designs.length < 2) throw new Error('usage: node bench/compare.ts <checkout> <checkout> [...]')
  const servers = await startServers(resources)
  const bodies = join(servers.dir, 'bodies')
  await writeBodies(bodies, (RUNS + 1) * SECONDS * MOST_REQUESTS_PER_SECOND)
  const cpu: number[][] = designs.map(() => [])
  const idle: number[][] = designs.map(() => [])
  for (let round = 0; round < ROUNDS; round++) {
    for (const costs of await measureTogether(resources, servers, designs, bodies)) {
      for (const [index, cost] of costs.entries()) cpu[index]!.push(cost / costs[0]!)
    }
  }
  for (let round = 0; round < IDLE_ROUNDS; round++) {
    const latencies = await measureIdle(resources, servers, designs)
    const p50s = designs.map(({ name }) => latencies[name]!.p50Ms)
    for (const [index, p50Ms] of p50s.entries()) idle[index]!.push(p50Ms - p50s[0]!)
  }
  console.log(`beside ${designs[0]!.name}:`)
  for (const [index, { name }] of designs.entries()) {
    const times = medianAndSpread(cpu[index]!, (ratio) => ratio.toFixed(3))
    const later = medianAndSpread(idle[index]!, (ms) => ms.toFixed(3))
    console.log(`${name}\n  CPU of a request, times: ${times}\n  idle, p50 later by ms: ${later}`)
  }
})

function designAt(folder: string, index: number): Design {
  const checkout = resolve(folder)
  const ingest = join(checkout, ringback.ingest)
  if (!existsSync(ingest)) throw new Error(`${folder} is no checkout of Ringback`)
  return {
    ...ringback,
    name: `${index + 1}: ${folder}`,
    database: `bench_compare_${index}`,
    ingest,
    worker: join(checkout, ringback.worker!),
    // Of its own modules, too.
    environment: { RINGBACK_CONFIG: join(checkout, 'ringback.config.ts') },
  }
}

/** For each run, microseconds of CPU that a request cost each design's ingest. Nothing is stored: no worker is running. */
async function measureTogether(
  resources: AsyncDisposableStack,
  servers: Servers,
  designs: readonly Design[],
  bodies: string,
): Promise<number[][]> {
  const running = await Promise.all(
    designs.map((design) => startDesign(resources, servers, design, { withoutWorkers: true })),
  )
  const sent = running.map(() => 0)

  async function measureOne({ url, ingest }: RunningDesign, index: number): Promise<number> {
    const before = cpuTimeUs(ingest.pid)
    const result = await sendLoad(resources, {
      url,
      bodies,
      skip: sent[index]!,
      seconds: SECONDS,
      connections: CONNECTIONS,
      logFile: join(servers.dir, `wrk-${index}.log`),
    })
    sent[index]! += result.sent
    return (cpuTimeUs(ingest.pid) - before) / result.sent
  }

  const costs: number[][] = []
  for (let run = 0; run <= RUNS; run++) {
    await servers.emptyRedis()
    const own = await Promise.all(running.map(measureOne))
    if (run > 0) costs.push(own)
  }
  for (const design of running) await design.stop()
  return costs
}
