import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { freeze, kill, killWhileWaiting } from './faults/faults.ts'
import type { Cell } from './faults/cells.ts'
import { line } from './faults/report.ts'
import { hasFailed, runCell } from './faults/run-cell.ts'
import { prepareCluster } from './faults/servers.ts'
import type { PreparedCluster } from './faults/servers.ts'
import type { ProcessName } from './faults/stand.ts'

// The short form of `pnpm faults`: each process is killed and frozen once or twice, with servers of its own.

const queue = inject('queue')

let cluster: PreparedCluster
beforeAll(async () => void (cluster = await prepareCluster()), 120_000)
afterAll(() => cluster?.[Symbol.asyncDispose]())

const targets: ProcessName[] =
  queue === 'redis' ? ['ingest', 'worker', 'redis', 'postgres'] : ['ingest', 'worker', 'postgres']
const short: (Cell & { seconds: number })[] = [
  ...targets.flatMap((target) => [
    { name: `kill:${target}:${queue}`, queue, fault: kill(target), seconds: 3 },
    { name: `freeze:${target}:${queue}`, queue, fault: freeze(target), seconds: 1 },
  ]),
  { name: `kill-waiting:${queue}+ingest:${queue}`, queue, fault: killWhileWaiting(queue), seconds: 3 },
]

test.concurrent.each(short)(
  '$name: nothing acknowledged is lost, stored twice or left without its handler',
  async (cell) => {
    const { seconds } = cell
    const result = await runCell(cell, {
      cluster,
      seed: 'npm test',
      seconds,
      rate: 60,
      lengthMs: [3000, 5000],
      patienceMs: 90_000,
    })
    expect(result.distinctStored).toBeGreaterThan(100)
    expect(hasFailed(result), line(result)).toBe(false)
  },
  300_000,
)
