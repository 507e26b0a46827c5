import { setTimeout as sleep } from 'node:timers/promises'
import type { PgPool } from 'bullmq'
import type { RedisClient } from './redis-client.ts'

// BullMQ stores times of the wall clock: when it last looked for stalled jobs, how long a job is locked, when a postponed one
// is due. If a clock was ahead and is set right, those times are far ahead, and without this, jobs would wait until then.

/** No time of ours is further ahead than this. */
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
  local now, most, lock = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
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
    `with checked as (
      update bullmq.meta set value = $2::text
      where queue = $1 and field = 'stalled-check' and value::bigint > $2::bigint + $3
    ),
    locked as (
      update bullmq.job set locked_until_ms = $2::bigint + $4
      where queue = $1 and state = 'active' and locked_until_ms > $2::bigint + $3
    )
    update bullmq.job set process_at_ms = $2::bigint
    where queue = $1 and state = 'delayed' and process_at_ms > $2::bigint + $3`,
    [queue, String(Date.now()), MOST_AHEAD_MS, LOCK_MS],
  )
}
