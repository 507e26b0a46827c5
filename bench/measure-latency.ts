import { join } from 'node:path'
import postgres from 'postgres'
import { startDesign } from './designs.ts'
import type { Design } from './designs.ts'
import { sendLoad } from './load.ts'
import { WARM_UP_SECONDS, untilStored } from './measure-load.ts'
import type { Bodies } from './measure-load.ts'
import { startProgram } from './program.ts'
import type { Servers } from './servers.ts'

/** Time from when a request was due until its answer, at one arrival rate. */
export interface Latency {
  p50Ms: number
  p99Ms: number
  p999Ms: number
  /** How many requests were not answered with 200. */
  failed: number
}

/** Requests a second, by the name that the report gives them. */
export type Rates = Readonly<Record<string, number>>

/** How long the sender warms up. Each rate has a fresh one. */
const CLIENT_WARM_UP_SECONDS = 2

/** Measures one design at each of `rates`, while its workers run. Rejects unless all is stored afterwards. */
export async function measureLatency(
  resources: AsyncDisposableStack,
  servers: Servers,
  design: Design,
  { bodies, rates, seconds }: { bodies: Bodies; rates: Rates; seconds: number },
): Promise<Record<string, Latency>> {
  await servers.emptyRedis()
  const running = await startDesign(resources, servers, design)
  const sql = postgres(running.databaseUrl, { max: 1 })
  const latencies: Record<string, Latency> = {}
  try {
    const warmUp = { url: running.url, bodies: bodies.file, skip: 0, seconds: WARM_UP_SECONDS, connections: 16 }
    let { sent, answered } = await sendLoad(resources, { ...warmUp, logFile: join(servers.dir, 'wrk.log') })
    if (!design.storesNothing) await untilStored(sql, { sent, answered })
    for (const [name, rate] of Object.entries(rates)) {
      const plan = {
        url: running.url,
        bodies: bodies.file,
        skip: sent,
        rate,
        warmUpSeconds: CLIENT_WARM_UP_SECONDS,
        seconds,
      }
      const result = await sendOpenLoop(resources, servers, plan)
      sent += result.sent
      answered += result.sent - result.failed
      const { p50Ms, p99Ms, p999Ms, failed } = result
      latencies[name] = { p50Ms, p99Ms, p999Ms, failed }
      if (!design.storesNothing) await untilStored(sql, { sent, answered })
    }
    return latencies
  } finally {
    await sql.end({ timeout: 1 })
    await running.stop()
  }
}

async function sendOpenLoop(
  resources: AsyncDisposableStack,
  { dir }: Servers,
  plan: { url: string; bodies: string; skip: number; rate: number; warmUpSeconds: number; seconds: number },
): Promise<Latency & { sent: number }> {
  const client = startProgram(resources, {
    command: process.execPath,
    args: [join(import.meta.dirname, 'open-loop.ts'), JSON.stringify(plan)],
    logFile: join(dir, 'open-loop.log'),
  })
  const output = await client.ended
  return JSON.parse(output.trim().split('\n').at(-1)!) as Latency & { sent: number }
}
