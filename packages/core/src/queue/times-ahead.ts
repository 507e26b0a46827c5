import { setTimeout as sleep } from 'node:timers/promises'
import type { PgPool } from 'bullmq'
import type { RedisClient } from './redis-client.ts'

// BullMQ stores times of the wall clock: when it last looked for stalled jobs, how long a job is locked, when a postponed one
// is due. If a clock was ahead and is set right, those times are far ahead, and without this, jobs would wait until then.

/** No time of ours is further ahead than this of both clocks, that of this process and the server's: one may be behind. */
const MOST_AHEAD_MS = 60_000
/** How long a lock that was further ahead still lasts. It is no shorter than a new one: its process may be alive. */
const LOCK_MS = 3000
const INTERVAL_MS = 5000

/** Calls `correct` at once and then every few seconds, until the function that it returns is called. */
export function keepCorrecting(correct: () => Promise<unknown>, onError: (error: Error) => void): () => void {
  const stopping = new AbortController()
  const { signal } = stopping
  void (async () => {
    while (!signal.aborted) {
      await correct().catch((error: Error) => signal.aborted || onError(error))
      await sleep(INTERVAL_MS, undefined, { signal }).catch(() => undefined) // ends the pause
    }
  })()
  return () => stopping.abort()
}

// BullMQ's scores of delayed jobs are milliseconds times 4096.
const CORRECT_IN_REDIS = `
  local time = redis.call('TIME')
  local now = math.max(tonumber(ARGV[1]), time[1] * 1000 + math.floor(time[2] / 1000))
  local most, lock = tonumber(ARGV[2]), tonumber(ARGV[3])
  local function shorten(key)
    if redis.call('PTTL', key) > most then redis.call('PEXPIRE', key, lock) end
  end
  shorten(KEYS[2])
  for _, id in ipairs(redis.call('LRANGE', KEYS[3], 0, -1)) do shorten(KEYS[1] .. ':' .. id .. ':lock') end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], (now + most) * 4096, '+inf', 'LIMIT', 0, 1000)) do
    redis.call('ZADD', KEYS[4], now * 4096, id)
  end`

/** Corrects the times of one queue, or of one shard, whose keys begin with `queue`. */
export async function correctInRedis(client: RedisClient, queue: string): Promise<void> {
  const keys = [queue, `${queue}:stalled-check`, `${queue}:active`, `${queue}:delayed`]
  await client.eval(CORRECT_IN_REDIS, keys.length, ...keys, Date.now(), MOST_AHEAD_MS, LOCK_MS)
}

export async function correctInPostgres(pool: PgPool, queue: string): Promise<void> {
  await pool.query(
    `with clock as (
      select greatest($2::bigint, (extract(epoch from now()) * 1000)::bigint) as now_ms
    ),
    checked as (
      update bullmq.meta set value = now_ms::text from clock
      where queue = $1 and field = 'stalled-check' and value::bigint > now_ms + $3
    ),
    locked as (
      update bullmq.job set locked_until_ms = now_ms + $4 from clock
      where queue = $1 and state = 'active' and locked_until_ms > now_ms + $3
    )
    update bullmq.job set process_at_ms = now_ms from clock
    where queue = $1 and state = 'delayed' and process_at_ms > now_ms + $3`,
    [queue, String(Date.now()), MOST_AHEAD_MS, LOCK_MS],
  )
}
