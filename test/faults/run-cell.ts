import { copyFile, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cell } from './cells.ts'
import { startLoad } from './load.ts'
import type { Load, LoadCounts } from './load.ts'
import { createRandom } from './random.ts'
import type { Random } from './random.ts'
import type { PreparedCluster } from './servers.ts'
import { startStand, untilUp } from './stand.ts'
import type { Stand } from './stand.ts'
import { findTruth } from './truth.ts'
import type { Truth } from './truth.ts'

export interface CellOptions {
  cluster: PreparedCluster
  /** Decides when the faults come, how long they last, and what is sent. */
  seed: string
  /** Faults are begun for so long. */
  seconds: number
  /** Requests a second. */
  rate: number
  /** How long a fault lasts that has a length: milliseconds, from and to. */
  lengthMs: readonly [number, number]
  /** Without progress for so long, it is over: what is missing then is lost. */
  patienceMs: number
}

export interface CellResult extends LoadCounts, Truth {
  name: string
  /** How often the fault was done. */
  faults: number
  /** Where the logs of all processes are kept, if something must not be as it is. */
  logs?: string
}

/** From the moment at which all is up again to the next fault: short enough that the backlog is still in hand at times. */
const PAUSE_MS = [0, 1500] as const
/** Faults that come whether all is up again or not. */
const HASTY_SHARE = 0.15
const WARM_UP_MS = 1000

/** Starts everything anew, does the cell's fault again and again under load, and counts what is left. */
export async function runCell(cell: Cell, options: CellOptions): Promise<CellResult> {
  await using resources = new AsyncDisposableStack()
  const { cluster, patienceMs } = options
  const { queue, isProxied = false, isOnSmallDisk = false } = cell
  const stand = await startStand(resources, { cluster, queue, isProxied, isOnSmallDisk })
  const load = startLoad({
    port: stand.ingestPort,
    rate: options.rate,
    random: createRandom(`${options.seed} ${cell.name} load`),
  })
  await sleep(WARM_UP_MS)
  const faults = await doFaults(cell, stand, createRandom(`${options.seed} ${cell.name}`), options)
  const faultEndedAt = Date.now()
  await untilAcceptedAgain(load, patienceMs)
  await load.finish(patienceMs)
  const truth = await findTruth(stand, load, { faultEndedAt, patienceMs })
  const result = { name: cell.name, faults, ...load.counts, ...truth }
  return hasFailed(result) ? { ...result, logs: await keepLogs(stand) } : result
}

/** Whether anything is there that must never be. */
export function hasFailed({ lost, storedTwice, handlerRunsMissing, neverAccepted }: CellResult): boolean {
  return lost + storedTwice + handlerRunsMissing + neverAccepted > 0
}

async function doFaults(cell: Cell, stand: Stand, random: Random, options: CellOptions): Promise<number> {
  const until = performance.now() + options.seconds * 1000
  let faults = 0
  do {
    if (!random.chance(HASTY_SHARE)) await untilUp(stand)
    await sleep(random.between(...PAUSE_MS))
    await cell.fault(stand, { random, lengthMs: options.lengthMs })
    faults += 1
  } while (performance.now() < until)
  return faults
}

/** So that the longest refusal is known to its end. */
async function untilAcceptedAgain({ counts }: Load, patienceMs: number): Promise<void> {
  const before = counts.answered200
  const deadline = performance.now() + patienceMs
  while (counts.answered200 === before && performance.now() < deadline) await sleep(50)
}

async function keepLogs({ processes }: Stand): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'ringback-faults-logs-'))
  for (const { logFile } of Object.values(processes)) await copyFile(logFile, join(dir, basename(logFile)))
  return dir
}
