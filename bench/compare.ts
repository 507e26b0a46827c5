import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { cpuTimeUs } from '../test/support/cpu-time.ts'
import { writeBodies } from './callbacks.ts'
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
// Measures what a change does to ingest: the CPU of a request under load, and the time to answer one that comes alone.
// Under load, the checkouts run at the same time, each with senders of its own, so that whatever else the machine does
// affects all of them alike. The medians of two copies of one version then differ by 2 or 3 %; in runs one after another
// they would differ by 10 %. When idle, the checkouts take turns, and two copies may differ by 0.08 ms.

/** How many rounds there are, each in fresh processes. */
const ROUNDS = 4
/** How many runs a round has, after one to warm up. */
const RUNS = 4
const SECONDS = 3
const CONNECTIONS = 32
const IDLE_ROUNDS = 3
/** More than one of several ingests can answer. */
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
    // The configuration is the checkout's own too, so that it imports the checkout's modules.
    environment: { RINGBACK_CONFIG: join(checkout, 'ringback.config.ts') },
  }
}

/** For each run, microseconds of CPU that a request costs each design's ingest. No worker runs, so nothing is stored. */
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
