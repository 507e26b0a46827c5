import { randomBytes, randomUUIDv7 } from 'node:crypto'
import type { QueuedCallback } from '@ringback/core/callback'
import type { Sql } from '@ringback/core/store/connect'

/** Events a second in each round, in both databases. */
export interface InsertRatio {
  /** How many rows the full database held. */
  rows: number
  /** How many callbacks a group has. */
  size: number
  empty: number[]
  full: number[]
}

const ROUNDS = 12
const GROUPS_A_ROUND = 60
const CONCURRENCY = 4

/** Stores groups in both databases in turns; which comes first changes each round. The first round is a warm-up. */
export async function measureInserts({
  empty,
  full,
  size,
  rows,
}: {
  empty: Sql
  full: Sql
  size: number
  rows: number
}): Promise<InsertRatio> {
  const ratio: InsertRatio = { rows, size, empty: [], full: [] }
  for (let round = 0; round <= ROUNDS; round++) {
    const order = round % 2 === 0 ? (['empty', 'full'] as const) : (['full', 'empty'] as const)
    for (const which of order) {
      const rate = await storeGroups(which === 'empty' ? empty : full, size)
      if (round > 0) ratio[which].push(rate)
    }
  }
  return ratio
}

/** Stores groups, which are made before. Resolves to the events a second over all of them. */
async function storeGroups(sql: Sql, size: number): Promise<number> {
  const groups = Array.from({ length: GROUPS_A_ROUND }, () => JSON.stringify(Array.from({ length: size }, aCallback)))
  const startedAt = performance.now()
  async function work(): Promise<void> {
    for (let group = groups.pop(); group !== undefined; group = groups.pop()) {
      await sql`select store_groups(array[${randomUUIDv7()}::uuid], ${group}, ${'[]'}, ${'[]'}, ${'[]'}, false)`
    }
  }
  await Promise.all(Array.from({ length: CONCURRENCY }, work))
  return (GROUPS_A_ROUND * size) / ((performance.now() - startedAt) / 1000)
}

let count = 0

/** A callback as generate.ts makes them: every other callback_id counts up in a range of its own, the others are random. */
function aCallback(): QueuedCallback {
  count += 1
  const number = 4_000_000_000 + count
  const content = JSON.stringify({
    callback_id: number,
    account_id: 4_711_001,
    type: 'sms_inbound',
    from: `+1555${String(count % 10_000_000).padStart(7, '0')}`,
    to: '+15559876543',
    text:
      'Hello, this is a message of ordinary length about an appointment: please call back before noon tomorrow, or answer ' +
      'with YES to keep it and NO to cancel it. Thank you, and have a good day. '.repeat(2),
  })
  return {
    id: randomUUIDv7(),
    source: 'voximplant',
    accountId: '4711001',
    callbackId: count % 2 === 0 ? String(number) : randomBytes(16).toString('hex'),
    type: 'sms_inbound',
    callId: randomBytes(16).toString('hex'),
    verifiedBy: 'id',
    occurredAt: new Date().toISOString(),
    method: 'POST',
    url: '/callbacks/voximplant',
    headers: { 'content-type': 'application/json', 'user-agent': 'provider/1.0', 'content-length': '487' },
    raw: Buffer.from(content).toString('base64'),
  }
}
