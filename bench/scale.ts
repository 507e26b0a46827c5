import { chmodSync, mkdtempSync } from 'node:fs'
import { rm, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { connect, LONG_WORK_MS } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { migrate } from '@ringback/core/store/migrate'
import { startPostgres } from '@ringback/standalone/embedded-postgres'
import { freePort } from '../test/support/free-port.ts'
import { runBench } from './run-bench.ts'
import { generate, preparePartitions } from './scale/generate.ts'
import { measureInserts } from './scale/measure-inserts.ts'
import type { InsertRatio } from './scale/measure-inserts.ts'
import { measureQueries } from './scale/measure-queries.ts'
import { measureSizes } from './scale/measure-sizes.ts'
import { insertRow, page } from './scale/page.ts'

// Measures the store with millions of events. They are made in Postgres, in the product's own tables, with all indexes.
// Storing is measured by store_groups, as the worker calls it, in turns with an empty database on the same server.

const GROUP_SIZES = [30, 100]
/** How many rows are made first, to estimate how much disk all of them will take. */
const SAMPLE_ROWS = 200_000
/** After how many rows storing is measured on the way to more. */
const MILESTONE_ROWS = 5_000_000
const CONNECTIONS = 4
/** How much disk the write-ahead log takes besides the tables. */
const WAL_BYTES = 8 * 2 ** 30

await runBench(async (resources) => {
  const { rows, write, disk } = parseOptions(process.argv.slice(2))
  const dir = mkdtempSync(join(tmpdir(), 'ringback-scale-'))
  resources.defer(() => rm(dir, { recursive: true, force: true }))
  chmodSync(dir, 0o755) // root's Postgres runs as somebody else

  const server = await startServer(resources, dir)
  const empty = await openDatabase(resources, server, 'empty')
  const full = await openDatabase(resources, server, 'full')
  await preparePartitions(full)

  const sample = Math.min(SAMPLE_ROWS, rows)
  let seconds = await generate(full, { from: 0, to: sample })
  await assertRoom(dir, await bytesPerRow(full, sample), rows)

  const inserts: InsertRatio[] = []
  let made = sample
  for (const milestone of rows > MILESTONE_ROWS ? [MILESTONE_ROWS, rows] : [rows]) {
    seconds += await generate(full, { from: made, to: milestone })
    made = milestone
    console.error(`${milestone} rows, made in ${Math.round(seconds)} s; measuring`)
    await quieten(full)
    for (const size of GROUP_SIZES) {
      const ratio = await measureInserts({ empty, full, size, rows: milestone })
      inserts.push(ratio)
      console.error(insertRow(ratio))
    }
    const sizes = await measureSizes(full)
    const queries = await measureQueries(server.databaseUrl('full'))
    const text = page({
      rows: made,
      inserts,
      sizes,
      queries,
      generatedPerSecond: made / seconds,
      postgres: server.version,
      disk,
    })
    // After each milestone, because the next one may be an hour away.
    console.log(text)
    if (write) await writeFile(join(import.meta.dirname, '../docs/performance-scale.md'), text)
  }
})

function parseOptions(argv: string[]): { rows: number; write: boolean; disk: string | undefined } {
  const { values } = parseArgs({
    args: argv,
    options: {
      rows: { type: 'string', default: String(MILESTONE_ROWS) },
      write: { type: 'boolean', default: false },
      // A text for the page, about anything unusual in where the data lie.
      disk: { type: 'string' },
    },
  })
  const rows = Number(values.rows)
  if (!Number.isInteger(rows) || rows < 100_000) throw new Error('--rows takes a whole number, at least 100000')
  return { rows, write: values.write, disk: values.disk }
}

interface Server {
  databaseUrl: (name: string) => string
  version: string
}

async function startServer(resources: AsyncDisposableStack, dir: string): Promise<Server> {
  const postgres = await startPostgres({
    dataDir: join(dir, 'data'),
    port: await freePort(),
    settings: [
      'shared_buffers=2GB',
      'max_wal_size=8GB',
      'fsync=on',
      'synchronous_commit=on',
      'maintenance_work_mem=256MB',
    ],
  })
  resources.defer(() => postgres.stop())
  const admin = connect(postgres.url, { max: 1, applicationName: 'ringback scale' })
  resources.defer(() => admin.end({ timeout: 1 }))
  for (const name of ['empty', 'full']) await admin`create database ${admin(name)}`
  const [row] = await admin<{ server_version: string }[]>`show server_version`
  return {
    databaseUrl: (name) => Object.assign(new URL(postgres.url), { pathname: name }).href,
    version: row!.server_version,
  }
}

async function openDatabase(resources: AsyncDisposableStack, server: Server, name: string): Promise<Sql> {
  const sql = connect(server.databaseUrl(name), {
    max: CONNECTIONS,
    applicationName: 'ringback scale',
    // A checkpoint of millions of rows takes long.
    longestStatementMs: LONG_WORK_MS,
  })
  resources.defer(() => sql.end({ timeout: 1 }))
  await migrate(sql)
  return sql
}

async function bytesPerRow(sql: Sql, rows: number): Promise<number> {
  const [row] = await sql<{ bytes: number }[]>`select pg_database_size(current_database())::float8 as bytes`
  return row!.bytes / rows
}

async function assertRoom(dir: string, perRow: number, rows: number): Promise<void> {
  const { bavail, bsize } = await statfs(dir)
  const needed = perRow * rows * 1.1 + WAL_BYTES
  console.error(`${Math.round(perRow)} bytes a row: ${rows} rows need ${gigabytes(needed)} with the log`)
  if (needed < bavail * bsize) return
  throw new Error(
    `${rows} rows need ${gigabytes(needed)} under ${tmpdir()} and ${gigabytes(bavail * bsize)} are free: ` +
      'give fewer --rows, or set TMPDIR to a folder with more room',
  )
}

function gigabytes(bytes: number): string {
  return `${Math.round(bytes / 1e9)} GB`
}

/** Finishes the work that generating has left, and turns autovacuum off so that it does none while something is measured. */
async function quieten(sql: Sql): Promise<void> {
  await sql`alter system set autovacuum = off`
  await sql`select pg_reload_conf()`
  for (const table of ['events', 'event_names', 'deliveries', 'attempts']) await sql`analyze ${sql(table)}`
  await sql`checkpoint`
}
