import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import postgres from 'postgres'
import { cpuTimeOfGroupUs, cpuTimeUs } from '../test/support/cpu-time.ts'
import { writeBodies } from './callbacks.ts'
import { ringback, startDesign } from './designs.ts'
import { sendLoad } from './load.ts'
import { assertRequirements } from './requirements.ts'
import { runBench } from './run-bench.ts'
import { startServers } from './servers.ts'

// Two workers deliver every event to three destinations. One destination is down for a while, and one worker is killed on
// the way. At the end each delivery must have succeeded, once. Run it by `node bench/fan-out.ts --events 100000`.

const { values } = parseArgs({ options: { events: { type: 'string', default: '100000' } } })
const events = Number(values.events)
const CHUNK_SECONDS = 2
/** Bodies in reserve, for what the last chunk sends beyond `events`. */
const RESERVE = 100_000

interface Totals {
  succeeded: number
  others: number
  succeededAttempts: number
  failed: number
  abandoned: number
  unknown: number
  attempts: number
}

const DEADLINE_MS = 600_000

await runBench(async (resources) => {
  assertRequirements()
  const servers = await startServers(resources)
  const bodies = join(servers.dir, 'bodies')
  await writeBodies(bodies, events + RESERVE)
  const downFile = join(servers.dir, 'down')
  const RINGBACK_CONFIG = join(import.meta.dirname, 'handlers/fan-out.config.ts')
  const running = await startDesign(resources, servers, {
    ...ringback,
    database: 'bench_fan_out',
    environment: { RINGBACK_CONFIG, FAN_OUT_DOWN_FILE: downFile, LOG_LEVEL: 'error' },
  })
  const second = await running.addWorker()
  const sql = postgres(running.databaseUrl, { max: 1 })
  resources.defer(() => sql.end({ timeout: 1 }))

  const startedAt = performance.now()
  const seconds = () => ((performance.now() - startedAt) / 1000).toFixed(1)
  const say = (text: string) => console.log(`${seconds()} s: ${text}`)
  const cpuBefore = { ingest: cpuTimeUs(running.ingest.pid), postgres: cpuTimeOfGroupUs(servers.postgresPid) }

  /** What happens on the way, and at which share of the events. */
  const plan: { at: number; name: string; act: () => void }[] = [
    { at: 0.3, name: 'the third destination is down', act: () => writeFileSync(downFile, '') },
    { at: 0.5, name: 'a worker is killed', act: () => process.kill(second.pid, 'SIGKILL') },
    { at: 0.7, name: 'the third destination is up again', act: () => rmSync(downFile) },
  ]
  let sent = 0
  while (sent < events) {
    const load = { url: running.url, bodies, skip: sent, seconds: CHUNK_SECONDS, connections: 32 }
    sent += (await sendLoad(resources, { ...load, logFile: join(servers.dir, 'wrk.log') })).sent
    while (plan.length > 0 && sent >= plan[0]!.at * events) {
      const { name, act } = plan.shift()!
      act()
      say(`${sent} events sent; ${name}`)
    }
  }
  say(`${sent} events sent, all of them accepted`)

  const deadline = performance.now() + DEADLINE_MS
  for (;;) {
    const [row] = await sql<{ done: boolean }[]>`
      select
        (select count(*) from events where source = 'voximplant') = ${sent} and not exists (select from deliveries where status = 'pending') as done`
    if (row!.done) break
    if (performance.now() > deadline) {
      console.log(await sql`select handler, status, count(*)::int from deliveries group by 1, 2 order by 1, 2`)
      throw new Error('Not everything was delivered within ten minutes of the last event')
    }
    await sleep(500)
  }
  say('everything is delivered')

  const [row] = await sql<Totals[]>`
    select
      (select count(*)::int from deliveries where status = 'succeeded') as succeeded,
      (select count(*)::int from deliveries where status <> 'succeeded') as others,
      (select count(*)::int from attempts where outcome = 'succeeded') as "succeededAttempts",
      (select count(*)::int from attempts where outcome = 'failed') as failed,
      (select count(*)::int from attempts where outcome = 'abandoned') as abandoned,
      (select count(*)::int from attempts where outcome is null) as unknown,
      (select sum(attempts)::int from deliveries) as attempts`
  console.log(row)
  const cpu = {
    ingest: cpuTimeUs(running.ingest.pid) - cpuBefore.ingest,
    worker: cpuTimeUs(running.workers[0]!.pid),
    postgres: cpuTimeOfGroupUs(servers.postgresPid) - cpuBefore.postgres,
  }
  console.log('CPU seconds, without the killed worker:', {
    ingest: cpu.ingest / 1e6,
    worker: cpu.worker / 1e6,
    postgres: cpu.postgres / 1e6,
  })
  const { succeeded, others, succeededAttempts, failed, abandoned, unknown, attempts } = row!
  const isRight =
    succeeded === 3 * sent &&
    others === 0 &&
    unknown === 0 &&
    succeededAttempts === succeeded &&
    attempts === succeededAttempts + failed + abandoned
  console.log(isRight ? 'right: every delivery succeeded, once' : 'WRONG')
  if (!isRight) process.exitCode = 1
  await running.stop()
})
