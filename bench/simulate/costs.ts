import { readFile } from 'node:fs/promises'
import { median } from '../statistics.ts'

/** Microseconds of one core for a group of `size` events are `group + size * event`. */
export interface Cost {
  group: number
  event: number
}

export const STAGES = ['ingest', 'worker', 'redis', 'postgres'] as const
export type Stage = (typeof STAGES)[number]

export interface Costs {
  stages: Record<Stage, Cost>
  /** How long a write with fsync takes, in milliseconds. */
  fsyncMs: number
  /** Where the figures are from. */
  from: string
}

/** Microseconds of CPU for an event: in groups of `GROUP`, and if every event travels alone. */
type Measured = Record<Stage, { grouped: number; alone: number }>

/** How many callbacks a group has at 64 connections: half of the clients wait while the others' group is on its way. */
export const GROUP = 30

/** Figures of docs/performance.md, used if no results are given: Ringback at 64 connections, and at one. */
const PUBLISHED: Measured = {
  ingest: { grouped: 88, alone: 608 },
  worker: { grouped: 42, alone: 722 },
  redis: { grouped: 28, alone: 571 },
  postgres: { grouped: 67, alone: 682 },
}
const PUBLISHED_FSYNC_MS = 0.36

/** The part of `pnpm bench --json` that is read here. */
interface Results {
  loads: Record<string, Record<string, { cpuUs: Record<Stage, number> }[]>>
}

/** The costs in a file of `pnpm bench --json`, or those of docs/performance.md. Throws if the file lacks what is needed. */
export async function readCosts(path: string | undefined): Promise<Costs> {
  if (path === undefined) {
    return { stages: split(PUBLISHED), fsyncMs: PUBLISHED_FSYNC_MS, from: 'the figures in docs/performance.md' }
  }
  const { loads } = JSON.parse(await readFile(path, 'utf8')) as Results
  const grouped = loads.load?.Ringback
  const alone = loads['connections-1']?.Ringback
  if (grouped === undefined || alone === undefined) {
    throw new Error(
      `${path} lacks "load" or "connections-1": run "pnpm bench --only load --only shapes --json ${path}"`,
    )
  }
  const of = (stage: Stage) => ({
    grouped: median(grouped.map(({ cpuUs }) => cpuUs[stage])),
    alone: median(alone.map(({ cpuUs }) => cpuUs[stage])),
  })
  const measured = { ingest: of('ingest'), worker: of('worker'), redis: of('redis'), postgres: of('postgres') }
  return { stages: split(measured), fsyncMs: PUBLISHED_FSYNC_MS, from: path }
}

/** Splits costs into those of a group and of an event, by the line through the two measured points. */
function split(measured: Measured): Record<Stage, Cost> {
  const cost = (stage: Stage): Cost => {
    const { grouped, alone } = measured[stage]
    const group = Math.max(0, (alone - grouped) / (1 - 1 / GROUP))
    return { group, event: grouped - group / GROUP }
  }
  return { ingest: cost('ingest'), worker: cost('worker'), redis: cost('redis'), postgres: cost('postgres') }
}

/** Events a second that one core of a stage can handle, in groups of `size`. */
export function perCore({ group, event }: Cost, size: number): number {
  return 1e6 / (event + group / size)
}
