import { parseArgs } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'
import { cpuTimeOfGroupUs } from '../support/cpu-time.ts'
import { judgeGrowth } from './growth.ts'
import { startLoad } from './load.ts'
import { wholeNumber } from './options.ts'
import { createRandom } from './random.ts'
import { runCommand } from './run-command.ts'
import { createSampler } from './samples.ts'
import type { Sample, Sampler } from './samples.ts'
import { prepareCluster } from './servers.ts'
import { startStand } from './stand.ts'
import type { ProcessName, Stand } from './stand.ts'
import { findTruth } from './truth.ts'

// Steady load for a long time: what each process uses must stay level, and when the load is over, next to nothing may go on.

const INTERVAL_MS = 10_000
const IDLE_MS = 20_000
const MAX_IDLE_COMMANDS_PER_SECOND = 100
/** The most CPU that each process may use when idle, as a share of one core. */
const MAX_IDLE_CPU_SHARE = 0.05
const PATIENCE_MS = 60_000

await runCommand(async (stopping) => {
  const { values } = parseArgs({
    options: {
      minutes: { type: 'string', default: '10' },
      rate: { type: 'string', default: '50' },
      queue: { type: 'string', default: 'redis' },
    },
  })
  const minutes = wholeNumber('minutes', values.minutes)
  const rate = wholeNumber('rate', values.rate)
  if (values.queue !== 'redis' && values.queue !== 'postgres') throw new Error('--queue takes "redis" or "postgres"')

  await using cluster = await prepareCluster()
  await using resources = new AsyncDisposableStack()
  const stand = await startStand(resources, { cluster, queue: values.queue })
  const sampler = resources.use(createSampler(stand))
  const load = startLoad({ port: stand.ingestPort, rate, random: createRandom('soak') })
  const samples = await sampleFor(minutes * 60_000, sampler, stopping)
  await load.finish(PATIENCE_MS)
  const truth = await findTruth(stand, load, { faultEndedAt: Date.now(), patienceMs: PATIENCE_MS })
  const { requests, answered200, slowestAnswerMs } = load.counts
  console.log(
    `${requests} requests, 200: ${answered200}, slowest answer ${Math.round(slowestAnswerMs)} ms; stored ${truth.distinctStored} of ` +
      `${truth.distinctSent}, lost ${truth.lost}, twice ${truth.storedTwice}, handler runs missing ${truth.handlerRunsMissing}\n`,
  )
  const isFlat = printGrowth(samples)
  const isIdle = await printIdle(stand, sampler)
  return isFlat && isIdle && truth.lost + truth.storedTwice + truth.handlerRunsMissing === 0
})

async function sampleFor(durationMs: number, sampler: Sampler, stopping: AbortSignal): Promise<Sample[]> {
  const samples: Sample[] = []
  const until = performance.now() + durationMs
  while (performance.now() < until && !stopping.aborted) {
    await sleep(INTERVAL_MS, undefined, { signal: stopping }).catch(() => undefined) // ends the pause early
    samples.push(await sampler.read())
  }
  return samples
}

/** Prints how values grew. Returns whether all are flat. */
function printGrowth(samples: Sample[]): boolean {
  const growths = judgeGrowth(samples, INTERVAL_MS)
  console.log(`${'under load'.padEnd(28)}   first third    last third  by the minute`)
  for (const { name, first, last, slopePerMinute, verdict } of growths) {
    const numbers = [first.toFixed(1), last.toFixed(1), slopePerMinute.toFixed(2)].map((text) => text.padStart(13))
    console.log(`${name.padEnd(28)} ${numbers.join(' ')}  ${verdict}`)
  }
  return growths.every(({ verdict }) => verdict === 'flat')
}

/** Prints what goes on when idle. Resolves to whether that is next to nothing. */
async function printIdle({ processes }: Stand, sampler: Sampler): Promise<boolean> {
  const names: ProcessName[] = ['ingest', 'worker', 'redis', 'postgres']
  const cpu = () => names.map((name) => cpuTimeOfGroupUs(processes[name].pid()!))
  const before = { commands: await sampler.redisCommands(), cpu: cpu() }
  await sleep(IDLE_MS)
  const after = { commands: await sampler.redisCommands(), cpu: cpu() }

  const commands = ((after.commands - before.commands) * 1000) / IDLE_MS
  const shares = names.map((_, index) => (after.cpu[index]! - before.cpu[index]!) / 1000 / IDLE_MS)
  console.log(`\nidle: Redis does ${commands.toFixed(1)} commands a second (at most ${MAX_IDLE_COMMANDS_PER_SECOND})`)
  for (const [index, name] of names.entries()) {
    console.log(
      `idle: ${name} uses ${(shares[index]! * 100).toFixed(1)} % of a core (at most ${MAX_IDLE_CPU_SHARE * 100} %)`,
    )
  }
  return commands <= MAX_IDLE_COMMANDS_PER_SECOND && shares.every((share) => share <= MAX_IDLE_CPU_SHARE)
}
