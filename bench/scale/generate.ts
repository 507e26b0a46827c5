import type { Sql } from '@ringback/core/store/connect'
import { TEXT } from '../callbacks.ts'

/** Over how many days rows are spread: as many as the store keeps by default. */
const DAYS = 90
/** How many rows one statement inserts. */
const BATCH = 50_000
/** How many statements run at a time. */
const CONCURRENCY = 2

/** Makes the partitions of the last 90 days. */
export async function preparePartitions(sql: Sql): Promise<void> {
  await sql`select ensure_partitions(now() - make_interval(days => ${DAYS}), now())`
}

/**
 * Makes the events number `from` to `to`, spread over the 90 days, with their names. Every fifth has a delivery that
 * succeeded (one in a thousand is dead), with its attempt. They are made in the order of time, as they would have come.
 * Resolves to the seconds it took.
 */
export async function generate(sql: Sql, range: { from: number; to: number }): Promise<number> {
  const startedAt = performance.now()
  const { from, to } = range
  let next = from
  async function work(): Promise<void> {
    while (next < to) {
      const first = next
      next = Math.min(first + BATCH, to)
      await insertBatch(sql, first, next, range)
      if (first % 1_000_000 === 0) console.error(`generating: ${first} of ${to}`)
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, work))
  await sql`select fold_event_counts()`
  return (performance.now() - startedAt) / 1000
}

/**
 * Every other callback_id counts up, as Voximplant's do. The others are random, as most providers' are, which is the hard
 * case for an index. Three in four events belong to a call, and each call has four.
 */
async function insertBatch(
  sql: Sql,
  first: number,
  end: number,
  { from, to }: { from: number; to: number },
): Promise<void> {
  await sql.begin(async (transaction) => {
    await transaction`set local synchronous_commit = off`
    await transaction`
      with numbers as materialized (
        select i, uuidv7(make_interval(secs => -${DAYS * 86_400}::float8 * (1 - (i - ${from}::float8) / ${to - from}::float8))) as id
        from generate_series(${first}::bigint, ${end - 1}::bigint) as i
      ),
      rows as materialized (
        select
          id, uuid_extract_timestamp(id) as received_at,
          (array['voximplant', 'vobiz', 'fonestorm'])[1 + (i / 4) % 3] as source,
          (4711001 + (i / 4) % 20)::text as account_id,
          case when i % 2 = 1 then i::text else md5(i::text) end as callback_id,
          case when i % 1000 = 7 then 'min_balance'
            else (array['call_started', 'call_answered', 'sms_inbound', 'call_ended'])[1 + i % 4] end as type,
          case when i % 4 <> 2 then md5('call' || i / 4) end as call_id,
          format(
            '{"callback_id": %s, "account_id": %s, "type": "%s", "from": "+1555%s", "to": "+15559876543", "duration": %s, "balance": %s, "currency": "USD", "price": "0.0%s", "text": "%s"}',
            i, 4711001 + (i / 4) % 20, (array['call_started', 'call_answered', 'sms_inbound', 'call_ended'])[1 + i % 4],
            lpad(((i * 7919) % 10000000)::text, 7, '0'), i % 600, (i % 5000) / 100.0, 10 + i % 89, ${TEXT}::text
          ) as content,
          i
        from numbers
      ),
      named as (
        insert into event_names (source, account_id, callback_id, event_id, received_at)
        select source, account_id, callback_id, id, received_at from rows
      ),
      counted as (
        insert into event_counts_appended (day, source, account_id, type, events, duplicates)
        select (received_at at time zone 'UTC')::date, source, account_id, type, count(*), 0 from rows group by 1, 2, 3, 4
      ),
      delivered as (
        insert into deliveries (event_id, event_received_at, handler, status, attempts, created_at, finished_at, last_error)
        select
          id, received_at, 'crm', case when i % 5000 = 0 then 'dead' else 'succeeded' end, 1, received_at,
          received_at + interval '1 second', case when i % 5000 = 0 then 'answered 500' end
        from rows
        where i % 5 = 0
        returning id, event_received_at, status
      ),
      attempted as (
        insert into attempts (delivery_id, event_received_at, number, started_at, duration_ms, outcome, status_code)
        select
          id, event_received_at, 1, event_received_at + interval '0.9 second', 100,
          case status when 'dead' then 'failed' else status end, case status when 'dead' then 500 else 200 end
        from delivered
      )
      insert into events (
        id, received_at, source, account_id, callback_id, type, call_id, verified_by, occurred_at, stored_at, payload, raw,
        method, url, headers
      )
      select
        id, received_at, source, account_id, callback_id, type, call_id, 'body', received_at, received_at, content::jsonb,
        convert_to(content, 'UTF8'), 'POST', '/callbacks/' || source,
        '{"content-type": "application/json", "user-agent": "provider/1.0", "content-length": "487"}'
      from rows`
  })
}
