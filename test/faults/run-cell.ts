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
  /** For how long faults are started. */
  seconds: number
  /** Requests a second. */
  rate: number
  /** The least and the greatest length of a fault that has one, in milliseconds. */
  lengthMs: readonly [number, number]
  /** How long to wait without progress. What is missing then is lost. */
  patienceMs: number
}

export interface CellResult extends LoadCounts, Truth {
  name: string
  /** How often the fault was done. */
  faults: number
  /** The folder where the logs of all processes are kept, if the cell has failed. */
  logs?: string
}

/** The pause from the moment when all is up again to the next fault: so short that a backlog is still in hand at times. */
const PAUSE_MS = [0, 1500] as const
/** The share of faults that do not wait until all is up again. */
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

/** Whether the result has anything that must never be. */
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

/** Waits until something is accepted again, so that the longest refusal is known to its end. */
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
