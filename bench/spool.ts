import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { DatabaseSync } from 'node:sqlite'
import { setImmediate } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { createLogger } from '@ringback/core/log'
import { openSpool } from '@ringback/core/spool'
import { table } from './markdown.ts'
import { median } from './statistics.ts'

// Measures what it costs to write a group to disk: Ringback's segments, against SQLite in a thread of its own and on the
// main thread. Groups are written one at a time, as by ingest; each is on disk before the next.

const ROUNDS = 5
const SECONDS = 2
const GROUP = { version: '1', callbacks: 'x'.repeat(30_000), quarantined: '[]', dropped: '[]' }

interface Store {
  append: (id: string) => Promise<void>
  close: () => Promise<unknown>
}

const SQL = {
  open: 'pragma journal_mode = wal; pragma synchronous = full; create table groups (id text primary key, job text) strict',
  insert: 'insert into groups values (?, ?)',
}

const designs: Record<string, (dir: string) => Promise<Store>> = {
  async 'append-only segments'(dir) {
    const spool = (await openSpool(dir, { maxBytes: 1e12, log: createLogger('bench', 'silent') }))!
    return { append: (id) => spool.append({ id, at: 0, job: GROUP }), close: spool.close }
  },
  async 'SQLite in a thread'(dir) {
    const program = `
      const { parentPort } = require('node:worker_threads')
      const database = new (require('node:sqlite').DatabaseSync)(${JSON.stringify(join(dir, 'spool.db'))})
      database.exec(${JSON.stringify(SQL.open)})
      const insert = database.prepare(${JSON.stringify(SQL.insert)})
      parentPort.on('message', ([id, job]) => { insert.run(id, job); parentPort.postMessage(id) })`
    const thread = new Worker(program, { eval: true })
    let stored: () => void
    thread.on('message', () => stored())
    return {
      append: (id) =>
        new Promise((resolve) => {
          stored = resolve
          // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread is no window
          thread.postMessage([id, JSON.stringify(GROUP)])
        }),
      close: () => thread.terminate(),
    }
  },
  async 'SQLite on the main thread'(dir) {
    const database = new DatabaseSync(join(dir, 'spool.db'))
    database.exec(SQL.open)
    const insert = database.prepare(SQL.insert)
    return {
      async append(id) {
        insert.run(id, JSON.stringify(GROUP))
        await setImmediate()
      },
      close: async () => database.close(),
    }
  },
}

interface Run {
  perSecond: number
  cpuUs: number
  longestBlockMs: number
}

async function measure(open: (dir: string) => Promise<Store>): Promise<Run> {
  const dir = await mkdtemp(join(tmpdir(), 'ringback-bench-spool-'))
  const store = await open(dir)
  for (let number = 0; number < 200; number++) await store.append(`warm-${number}`)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const cpu = process.cpuUsage()
  const startedAt = performance.now()
  let groups = 0
  for (; performance.now() - startedAt < SECONDS * 1000; groups++) await store.append(`group-${groups}`)
  const seconds = (performance.now() - startedAt) / 1000
  const { user, system } = process.cpuUsage(cpu)
  delay.disable()
  await store.close()
  await rm(dir, { recursive: true })
  return { perSecond: groups / seconds, cpuUs: (user + system) / groups, longestBlockMs: delay.max / 1e6 }
}

const runs = new Map<string, Run[]>(Object.keys(designs).map((name) => [name, []]))
for (let round = 1; round <= ROUNDS; round++) {
  for (const [name, open] of Object.entries(designs)) runs.get(name)!.push(await measure(open))
}
console.log(`Medians of ${ROUNDS} rounds; groups of 30 KB.\n`)
const rows = [...runs].map(([name, own]) => {
  const of = (part: keyof Run) => median(own.map((run) => run[part]))
  return [name, Math.round(of('perSecond')), Math.round(of('cpuUs')), of('longestBlockMs').toFixed(1)]
})
console.log(table(['design', 'groups/s', 'CPU us/group', 'event loop blocked, at most, ms'], rows))
