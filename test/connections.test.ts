import { afterAll, beforeAll, expect, test } from 'vitest'
import { connect } from '@ringback/core/store/connect'
import type { Sql } from '@ringback/core/store/connect'
import { ownPostgres } from './support/postgres-server.ts'
import type { PostgresServer } from './support/postgres-server.ts'
import { eventually } from './support/ringback.ts'
import { proxyTo } from './support/tcp-proxy.ts'

// What becomes of connections that break, and of what is asked of them. That nothing is lost meanwhile is in
// postgres-states.test.ts.

let server: PostgresServer
let admin: Sql

beforeAll(async () => {
  server = await ownPostgres()
  admin = connect(server.url, { max: 1, applicationName: 'ringback tests' })
})

afterAll(async () => {
  await admin.end({ timeout: 1 })
  await server[Symbol.asyncDispose]()
})

/** Waits until a session sleeps in its query, and ends that session. */
async function endSleeper(): Promise<void> {
  await eventually(async () =>
    expect(
      await admin`select pg_terminate_backend(pid, 5000) from pg_stat_activity where wait_event = 'PgSleep'`,
    ).toHaveLength(1),
  )
}

test('closing connections to a frozen server ends by itself, as does the query in hand', async () => {
  const idle = connect(server.url, { max: 1, applicationName: 'ringback tests' })
  const busy = connect(server.url, { max: 1, applicationName: 'ringback tests', longestStatementMs: 100 })
  const refused = connect(server.url, { max: 1, applicationName: 'ringback tests' })
  await Promise.all([idle`select 1`, busy`select 1`])
  server.freeze()
  try {
    const startedAt = performance.now()
    const query = expect(busy`select 2`.execute()).rejects.toMatchObject({ code: 'CONNECTION_SILENT' })
    const connecting = expect(refused`select 3`.execute()).rejects.toMatchObject({ code: 'CONNECT_TIMEOUT' })
    await Promise.all([idle.end(), busy.end(), query, connecting])
    expect(performance.now() - startedAt).toBeLessThan(9000)
    await refused.end()
  } finally {
    server.thaw()
  }
})

test('a connection that the server has ended with a query in hand can be closed', async () => {
  const sql = connect(server.url, { max: 1, applicationName: 'ringback tests' })
  const query = expect(sql`select pg_sleep(20)`.execute()).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  await endSleeper()
  await query
  await sql.end()
})

test('what waited when a connection broke is answered before end() resolves, and no connection is left', async () => {
  const sql = connect(server.url, { max: 1, applicationName: 'ends' })
  const lost = expect(sql`select pg_sleep(20)`.execute()).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  const answered: number[] = []
  const waited = sql<{ n: number }[]>`select 1 as n`.then(([row]) => answered.push(row!.n))
  const ended = sql.end().then(() => [...answered])
  await endSleeper()
  await Promise.all([lost, waited])
  expect(await ended).toEqual([1])
  await eventually(async () =>
    expect(await admin`select from pg_stat_activity where application_name = 'ends'`).toEqual([]),
  )
})

test('of an answer that broke off, by an error or with its connection, nothing gets into the next one', async () => {
  const sql = connect(server.url, { max: 1, applicationName: 'ringback tests' })
  await expect(sql`select 1 / (3 - x) from generate_series(1, 5) x`.execute()).rejects.toMatchObject({ code: '22012' })
  expect(await sql`select 1 as n`).toEqual([{ n: 1 }])

  // Two rows, each longer than the server's buffer; the third waits.
  const query = sql`
    select case x when 3 then pg_sleep(20)::text else repeat('x', 20000) end from generate_series(1, 3) x`.execute()
  const rejection = expect(query).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  await endSleeper()
  await rejection
  expect(await sql`select 2 as n`).toEqual([{ n: 2 }])
  await sql.end()
})

test('what is asked of a connection that is reset is rejected, and each later query gets its own answer', async () => {
  await using way = await proxyTo(server.url)
  const sql = connect(way.url, { max: 1, applicationName: 'ringback tests' })
  const lost = sql.begin(async (transaction) => {
    await transaction`select 1`
    way.reset()
    await transaction`select 2` // is followed by a rollback
  })
  await expect(lost).rejects.toThrow()
  for (const n of [3, 4, 5]) expect(await sql`select ${n}::int as n`).toEqual([{ n }])

  await sql`select 6`
  const again = sql`select pg_sleep(20)`.catch(() => sql`select 7`)
  way.reset()
  await expect(again).rejects.toThrow()
  for (const n of [8, 9, 10]) expect(await sql`select ${n}::int as n`).toEqual([{ n }])
  await sql.end()
})

test('connections that are cut together can all be used again, also one that is asked while it closes', async () => {
  await using way = await proxyTo(server.url)
  const sql = connect(way.url, { max: 2, applicationName: 'ringback tests' })
  const idle = sql`select 1`.execute()
  const busy = sql`select pg_sleep(20)`.catch(() => sql`select 2`).catch(() => undefined)
  await idle
  await eventually(async () =>
    expect(await admin`select from pg_stat_activity where wait_event = 'PgSleep'`).toHaveLength(1),
  )
  await way.cut()
  await busy
  await way.restore()
  await Promise.all([sql`select 3`, sql`select 4`])
  await sql.end()
})
