import { readFileSync, readdirSync } from 'node:fs'
import { Redis } from 'ioredis'
import { connect } from '@ringback/core/store/connect'
import { childrenOf } from '../support/process-tree.ts'
import type { ProcessName, Stand } from './stand.ts'

// Measures what the processes use at one moment, as Linux counts it.

/** Values at one moment, by the name of what they measure. */
export type Sample = Record<string, number>

/** Reads samples of a stand. Ends with its scope. */
export interface Sampler extends AsyncDisposable {
  read: () => Promise<Sample>
  /** Resolves to how many commands Redis has processed since its start. */
  redisCommands: () => Promise<number>
}

const PROCESSES: ProcessName[] = ['ingest', 'worker', 'redis', 'postgres']

/** Makes a sampler that connects to the stand's servers directly. */
export function createSampler({ processes, opsPorts, databaseUrl, redisUrl }: Stand): Sampler {
  const redis = new Redis(redisUrl)
  const sql = connect(databaseUrl, { max: 1, applicationName: 'ringback soak' })
  const infoValue = async (section: string, name: string) =>
    Number(new RegExp(`${name}:(\\d+)`).exec(await redis.info(section))![1])

  return {
    async read() {
      const sample: Sample = {}
      for (const name of PROCESSES) {
        const pids = treeOf(processes[name].pid()!)
        sample[`${name} memory (MB)`] = sum(pids, ownMemoryMb)
        sample[`${name} open files`] = sum(pids, openFiles)
      }
      for (const name of ['ingest', 'worker'] as const) sample[`${name} heap (MB)`] = await heapMb(opsPorts[name])
      sample['redis used_memory (MB)'] = (await infoValue('memory', 'used_memory')) / 2 ** 20
      const [row] = await sql<{ connections: number }[]>`
        select count(*)::integer as connections from pg_stat_activity where backend_type = 'client backend'`
      sample['postgres connections'] = row!.connections
      return sample
    },
    redisCommands: () => infoValue('stats', 'total_commands_processed'),
    async [Symbol.asyncDispose]() {
      redis.disconnect()
      await sql.end({ timeout: 1 })
    },
  }
}

function treeOf(pid: number): number[] {
  return [pid, ...childrenOf(pid).flatMap(treeOf)]
}

/** Memory that no other process maps: Postgres's processes share their buffers, which only fill up. */
function ownMemoryMb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/RssAnon:\s+(\d+) kB/.exec(status)![1]) / 1024
}

function openFiles(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length
}

/** A child that has just ended counts nothing. */
function sum(pids: number[], of: (pid: number) => number): number {
  return pids.reduce((total, pid) => {
    try {
      return total + of(pid)
    } catch {
      return total
    }
  }, 0)
}

async function heapMb(opsPort: number): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${opsPort}/metrics`)).text()
  return Number(/^nodejs_heap_size_used_bytes(?:\{[^}]*\})? (\S+)/m.exec(text)![1]) / 2 ** 20
}
