import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, readdir, readlink, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet'
import { expect, test } from 'vitest'
import { COLUMNS, RAW } from '../apps/cli/src/export/columns.ts'
import { eventually, freshDatabase, idAt } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { runCli, temporaryFolder } from './support/processes.ts'

const HOSTILE = `=cmd|' /C calc'!A0, "quoted",\r\nnew line; é 🎉 \u2028 \\ tab\t end`

/** Stores a callback through the worker's own function, received at that time. */
async function store(
  { sql }: Database,
  receivedAt: string,
  callbackId: string,
  payload: string,
  more: Record<string, unknown> = {},
): Promise<string> {
  const id = idAt(receivedAt)
  const callback = {
    id,
    source: 'voximplant',
    accountId: '',
    callbackId,
    type: 'sms_inbound',
    verifiedBy: 'id',
    occurredAt: '2026-01-01T00:00:00.123Z',
    method: 'POST',
    url: '/callbacks/voximplant',
    headers: { 'content-type': 'application/json' },
    raw: Buffer.from(payload).toString('base64'),
    ...more,
  }
  await sql`select ensure_partitions(${receivedAt}, ${receivedAt})`
  await sql`select store_groups(array[uuidv7()], ${JSON.stringify([callback])}, ${'[]'}, ${'[]'}, ${'[]'}, false)`
  return id
}

/** What people send, and what they would rather not: received in three weeks, and stored in another order. */
async function storeSome(database: Database): Promise<string[]> {
  const big = '{"id":9223372036854775807,"price":1.10,"nothing":null}'
  const third = await store(database, '2026-01-19T00:00:00.000Z', '9007199254740993123', big, { callId: 'call,1' })
  const first = await store(database, '2026-01-11T23:59:59.999Z', HOSTILE, JSON.stringify({ text: HOSTILE }))
  const second = await store(database, '2026-01-12T00:00:00.000Z', 'line\nend', '[]', {
    source: 'vobiz',
    type: 'call\rend',
  })
  return [first, second, third]
}

const JANUARY = ['--since', '2026-01-01T00:00Z', '--until', '2026-02-01T00:00Z']

function exportTo(database: Database, path: string, ...args: string[]) {
  return runCli({ DATABASE_URL: database.url }, 'export', ...JANUARY, '--out', path, ...args)
}

test('a folder that is not there is named before anything is read', async () => {
  await using database = await freshDatabase()
  expect(await exportTo(database, '/nonexistent/x.csv', '--format', 'csv')).toMatchObject({
    code: 1,
    output: expect.stringMatching(
      /^\/nonexistent\/x\.csv\.\w+\.part cannot be written \(ENOENT\); --out names a file in a folder/,
    ),
  })
})

test('a folder is refused as a file before anything is read', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  expect(await exportTo(database, folder.path, '--format', 'csv')).toMatchObject({
    code: 1,
    output: expect.stringMatching(/ is a folder; --out names a file$/m),
  })
  expect(await exportTo(database, `${folder.path}/new/`, '--format', 'csv')).toMatchObject({
    code: 1,
    output: expect.stringContaining('must be a file, not a folder'),
  })
  expect(await readdir(folder.path)).toEqual([])
})

test('under npm, which starts everything in the project’s folder, a relative file lies where npm was started', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  const args = ['export', ...JANUARY, '--format', 'csv', '--out', 'x.csv', '--json']
  const { output } = await runCli({ DATABASE_URL: database.url, INIT_CWD: folder.path }, ...args)
  expect(JSON.parse(output)).toMatchObject({ file: join(folder.path, 'x.csv') })
  expect(await readdir(folder.path)).toEqual(['x.csv'])
})

test('an export has every column of events', async () => {
  await using database = await freshDatabase()
  const columns = await database.sql<{ name: string }[]>`
    select column_name as name from information_schema.columns where table_name = 'events' and table_schema = 'public'`
  expect([...COLUMNS, RAW].map(({ name }) => name).toSorted()).toEqual(columns.map(({ name }) => name).toSorted())
})

test('what Postgres reads from the CSV is what it stored: nulls, empty texts, quotes, line ends and all digits', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  await storeSome(database)
  const path = join(folder.path, 'events.csv')
  expect(await exportTo(database, path, '--format', 'csv')).toMatchObject({ code: 0, output: /^3 events, \d+ bytes/ })

  const names = COLUMNS.map(({ name }) => name)
  await database.sql.unsafe(`create table copied as select ${names.join(', ')} from events with no data`)
  const copy = await database.sql.unsafe('copy copied from stdin (format csv, header match)').writable()
  await pipeline([await readFile(path)], copy)
  const differences = await database.sql.unsafe(`
    (select ${names.join(', ')} from events except all table copied)
    union all (table copied except all select ${names.join(', ')} from events)`)
  expect(differences).toEqual([])
  expect(await database.sql`select count(*)::int as rows from copied`).toEqual([{ rows: 3 }])
})

test('an independent reader finds in the Parquet file what was stored, with its types', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  const ids = await storeSome(database)
  const path = join(folder.path, 'events.parquet')
  expect(await exportTo(database, path, '--format', 'parquet', '--raw')).toMatchObject({ code: 0 })

  const rows = await parquetReadObjects({ file: await asyncBufferFromFile(path), utf8: false })
  expect(rows.map(({ id }) => id)).toEqual(ids)
  expect(rows[0]).toMatchObject({
    received_at: new Date('2026-01-11T23:59:59.999Z'),
    callback_id: HOSTILE,
    account_id: '',
    duplicates: 0,
    raw: new Uint8Array(Buffer.from(JSON.stringify({ text: HOSTILE }))),
  })
  expect([null, undefined]).toContain(rows[0]!.call_id)
  expect(rows[2]).toMatchObject({
    callback_id: '9007199254740993123',
    call_id: 'call,1',
    payload: '{"id": 9223372036854775807, "price": 1.10, "nothing": null}',
  })
  const { schema } = await parquetMetadataAsync(await asyncBufferFromFile(path))
  expect(schema.find(({ name }) => name === 'received_at')?.logical_type).toMatchObject({
    type: 'TIMESTAMP',
    isAdjustedToUTC: true,
    unit: 'MICROS',
  })
})

test('NDJSON on the standard output is in the order of receipt, and nothing else is there', async () => {
  await using database = await freshDatabase()
  const ids = await storeSome(database)
  const { stdout, stderr } = await cli(database, 'export', ...JANUARY, '--format', 'ndjson', '--out', '-')
  const rows = stdout.trimEnd().split('\n')
  expect(rows.map((row) => (JSON.parse(row) as { id: string }).id)).toEqual(ids)
  expect(rows[2]).toContain('"payload":{"id": 9223372036854775807, "price": 1.10, "nothing": null}')
  expect(JSON.parse(rows[0]!)).toMatchObject({ call_id: null, payload: { text: HOSTILE } })
  expect(stderr).toMatch(/^3 events/)
})

test.each([
  [['--source', 'vobiz'], 1],
  [['--type', 'call*'], 1],
  [['--account', ''], 3],
  [['--account', '1'], 0],
  [['--call-id', 'call,1'], 1],
  // Both ends at the edge of a partition: the first belongs to the range, the last does not.
  [['--since', '2026-01-12T00:00Z', '--until', '2026-01-19T00:00Z'], 1],
  [['--since', '2025-01-01T00:00Z', '--until', '2025-06-01T00:00Z'], 0],
  // Of half a million weeks it looks at those that are there.
  [['--since', '0001-01-01', '--until', '9999-12-31'], 3],
])('with %j it has %i events', async (args, events) => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  await storeSome(database)
  for (const format of ['csv', 'parquet', 'ndjson']) {
    const path = join(folder.path, 'events')
    const { output } = await exportTo(database, path, '--format', format, '--json', ...args)
    expect(JSON.parse(output)).toMatchObject({ events, format, file: path })
    if (format === 'parquet') {
      expect(await parquetReadObjects({ file: await asyncBufferFromFile(path) })).toHaveLength(events)
    } else {
      expect((await readFile(path, 'utf8')).startsWith('"id","received_at"')).toBe(format === 'csv')
    }
  }
})

test('a text that a spreadsheet would run is left as it is, or marked where --spreadsheet asks for it', async () => {
  await using database = await freshDatabase()
  await storeSome(database)
  const csv = async (...args: string[]) =>
    (await cli(database, 'export', ...JANUARY, '--format', 'csv', '--out', '-', ...args)).stdout
  expect(await csv()).toContain(`"=cmd|`)
  expect(await csv('--spreadsheet')).toContain(`"'=cmd|`)
})

test('pages of callbacks too large to be in memory together leave none out', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  const large = JSON.stringify({ text: 'x'.repeat(3 * 2 ** 20) })
  const ids: string[] = []
  for (const second of [1, 2, 3])
    ids.push(await store(database, `2026-01-12T00:00:0${second}.000Z`, `${second}`, large))
  const path = join(folder.path, 'events.parquet')
  await exportTo(database, path, '--format', 'parquet')
  const rows = await parquetReadObjects({ file: await asyncBufferFromFile(path), columns: ['id'] })
  expect(rows.map(({ id }) => id)).toEqual(ids)
})

test('a payload that is too long as text is null, and all others are there', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  await store(database, '2026-01-12T00:00:01.000Z', '1', '{"text":"a"}')
  await store(database, '2026-01-12T00:00:02.000Z', '2', `[${Array.from({ length: 40 }, () => '1e131071').join(',')}]`)
  const path = join(folder.path, 'events')
  for (const format of ['csv', 'parquet', 'ndjson']) {
    expect((await exportTo(database, path, '--format', format)).output).toMatch(/^2 events/)
    if (format === 'parquet') {
      const rows = await parquetReadObjects({ file: await asyncBufferFromFile(path), columns: ['payload'] })
      expect(rows).toEqual([{ payload: '{"text": "a"}' }, { payload: null }])
    } else if (format === 'ndjson')
      expect(await readFile(path, 'utf8')).toMatch(/"payload":{"text": "a"}.*\n.*"payload":null/)
  }
})

test('an export that fails leaves no file, and the one of before as it was', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  await storeSome(database)
  const path = join(folder.path, 'events.csv')
  await writeFile(path, 'of yesterday')
  // The first week can be read; while the second is waited for, the connection ends.
  await using holder = await database.sql
    .reserve()
    .then((sql) => ({ sql, [Symbol.asyncDispose]: async () => sql.release() }))
  await holder.sql`begin`
  await holder.sql`lock table events_2026w03 in access exclusive mode`
  const exporting = exportTo(database, path, '--format', 'csv')
  await eventually(async () =>
    expect(
      await database.sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = 'ringback cli' and datname = current_database() and wait_event_type = 'Lock'`,
    ).toHaveLength(1),
  )
  const { code, output } = await exporting
  expect(code).toBe(1)
  await holder.sql`rollback`
  expect(output).toMatch(/CONNECTION_CLOSED|terminating connection/)
  expect(await readdir(folder.path)).toEqual(['events.csv'])
  expect(await readFile(path, 'utf8')).toBe('of yesterday')
})

test('two exports to one file do not write into each other: each is whole, and the last one stays', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  await storeSome(database)
  const path = join(folder.path, 'events')
  await using holder = await database.sql
    .reserve()
    .then((sql) => ({ sql, [Symbol.asyncDispose]: async () => sql.release() }))
  await holder.sql`begin`
  await holder.sql`lock table events_2026w03 in access exclusive mode`
  // It has written its first week when the other one begins, and goes on after the other one has ended.
  const first = exportTo(database, path, '--format', 'csv', '--raw')
  await eventually(async () =>
    expect(
      await database.sql`
        select from pg_stat_activity
        where application_name = 'ringback cli' and datname = current_database() and wait_event_type = 'Lock'`,
    ).toHaveLength(1),
  )
  const second = await exportTo(database, path, '--format', 'ndjson', '--until', '2026-01-12')
  expect(second.code, second.output).toBe(0)
  const content = await readFile(path, 'utf8')
  expect(
    content
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { type: string }).type),
  ).toEqual(['sms_inbound'])
  await holder.sql`rollback`
  expect(await first).toMatchObject({ code: 0 })
  expect(await readFile(path, 'utf8')).toMatch(/^"id","received_at"[^]*("sms_inbound"[^]*){2}$/)
  expect(await readdir(folder.path)).toEqual(['events'])
})

test('an export takes the place of no pipe and no device', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'nowhere')
  await symlink('/dev/null', path)
  expect(await exportTo(database, path, '--format', 'csv')).toMatchObject({
    code: 1,
    output: expect.stringMatching(/ is a pipe or a device; --out names a file, or "-"$/m),
  })
  expect(await readlink(path)).toBe('/dev/null')
})

test('an export whose reader has had enough ends', async () => {
  await using database = await freshDatabase()
  await fill(database, 20_000)
  const args = ['export', ...JANUARY, '--format', 'ndjson', '--out', '-']
  const child = spawn(process.execPath, ['apps/cli/src/main.ts', ...args], {
    env: { PATH: process.env.PATH, DATABASE_URL: database.url },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  await once(child.stdout, 'data')
  child.stdout.destroy()
  let output = ''
  child.stderr.on('data', (text) => (output += String(text)))
  const [code] = (await once(child, 'close')) as [number]
  expect(code).toBe(1)
  expect(output).toMatch(/Nobody reads the standard output any more/)
})

test.each([
  [['--format', 'csv'], /--out <file>/],
  [['--format', 'xml', '--out', 'x'], /Allowed choices are csv, parquet, ndjson/],
  [['--format', 'parquet', '--out', 'x', '--spreadsheet'], /--spreadsheet goes with --format csv/],
  [['--format', 'csv', '--out', 'x', '--until', '2025-01-01'], /no time between --since and --until/],
  [['--format', 'csv', '--out', '/nowhere/x'], /no such file or directory.*\/nowhere\/x\.\w+\.part/],
])('%j ends with an error that says what to do', async (args, message) => {
  const environment = { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing' }
  const { code, output } = await runCli(environment, 'export', '--since', '2026-01-01', ...args)
  expect(output).toMatch(message)
  expect(code).toBe(1)
})

const ROWS = 100_000
/** Of JavaScript's objects; who needs more ends. The events have 400 MB of text. */
const HEAP_MB = 96
/** Of the whole process. */
const MEMORY_MB = 400

test('100,000 events are exported in bounded memory', async () => {
  await using database = await freshDatabase()
  await using folder = await temporaryFolder()
  await fill(database, ROWS)
  for (const format of ['csv', 'ndjson', 'parquet']) {
    const path = join(folder.path, format)
    const args = ['export', ...JANUARY, '--format', format, '--out', path, '--raw', '--json']
    const { stdout, stderr } = await cli(database, ...args)
    expect(JSON.parse(stdout)).toMatchObject({ events: ROWS, format })
    const megabytes = Number(/maxRSS (\d+)/.exec(stderr)![1]) / 1024
    expect(megabytes, format).toBeLessThan(MEMORY_MB)
  }
  const rows = await parquetReadObjects({
    file: await asyncBufferFromFile(join(folder.path, 'parquet')),
    columns: ['id', 'callback_id'],
  })
  expect(new Set(rows.map(({ callback_id: name }) => name as string)).size).toBe(ROWS)
  const ids = rows.map(({ id }) => id as string)
  expect(ids).toEqual(ids.toSorted())
}, 300_000)

/** So many events of a kilobyte, spread over three weeks of January 2026. */
async function fill({ sql }: Database, count: number): Promise<void> {
  await sql`select ensure_partitions('2026-01-01T00:00Z', '2026-01-31T00:00Z')`
  await sql`
    insert into events (id, received_at, source, account_id, callback_id, type, verified_by, occurred_at, payload, raw, method, url, headers)
    select
      id, uuid_extract_timestamp(id), 'voximplant', '1', i::text, 'sms_inbound', 'id', now(), content::jsonb,
      convert_to(content, 'UTF8'), 'POST', '/callbacks/voximplant', '{}'
    from (
      select
        i, uuidv7('2026-01-05T00:00Z'::timestamptz - now() + make_interval(secs => i * 1.8e6::float8 / ${count}::int)) as id,
        json_build_object('callback_id', i, 'text', repeat(md5(i::text), 30))::text as content
      from generate_series(1, ${count}::int) as i
    ) as made`
}

const SAY_MEMORY = `data:text/javascript,process.on('exit',()=>console.error('maxRSS',process.resourceUsage().maxRSS))`

function cli(database: Database, ...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const limit = `--max-old-space-size=${HEAP_MB}`
  return promisify(execFile)(process.execPath, [limit, '--import', SAY_MEMORY, 'apps/cli/src/main.ts', ...args], {
    env: { PATH: process.env.PATH, DATABASE_URL: database.url },
    maxBuffer: 2 ** 28,
  })
}
