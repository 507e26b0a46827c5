import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { aCallback, eventually } from './ringback.ts'
import type { Database } from './ringback.ts'

/** Callbacks sent one after another by several senders, until it is ended. */
export interface Load {
  /** Names whose requests were answered 200. */
  accepted: Set<number>
  /** Requests that were refused or not answered. */
  refused: () => number
  /** Ends the load, and waits until every sender has its answer. */
  end: () => Promise<void>
}

/** Sends genuine callbacks to an ingest's port, each name once. */
export function startLoad(port: number, { senders = 8 }: { senders?: number } = {}): Load {
  const accepted = new Set<number>()
  let next = 0
  let refused = 0
  let isEnding = false

  async function send(): Promise<void> {
    while (!isEnding) {
      const id = (next += 1)
      const body = JSON.stringify({ callbacks: [aCallback(id)] })
      const status = await fetch(`http://127.0.0.1:${port}/callbacks/voximplant`, { method: 'POST', body }).then(
        async (response) => {
          await response.arrayBuffer()
          return response.status
        },
        () => 0,
      )
      if (status === 200) accepted.add(id)
      else {
        refused += 1
        await sleep(20)
      }
    }
  }
  const sending = Array.from({ length: senders }, send)
  return {
    accepted,
    refused: () => refused,
    async end() {
      isEnding = true
      await Promise.all(sending)
    },
  }
}

/** Expects that under load `count` more are accepted, and that what is accepted is stored. */
export async function storesMore(database: Database, load: Load, count: number): Promise<void> {
  const enough = load.accepted.size + count
  await eventually(async () => expect(load.accepted.size).toBeGreaterThan(enough))
  await eventually(async () => {
    const [row] = await database.sql<{ count: number }[]>`select count(*)::integer as count from events`
    expect(row!.count).toBeGreaterThan(enough)
  })
}

/** Waits until all that was accepted is stored, once each. */
export async function expectStored(database: Database, { accepted }: Load): Promise<void> {
  await eventually(async () => {
    const events = await database.sql<{ id: number }[]>`select callback_id::integer as id from events`
    const stored = new Set(events.map(({ id }) => id))
    expect([...accepted].filter((id) => !stored.has(id))).toEqual([])
    expect(stored.size).toBe(events.length)
  })
  expect(await database.sql`select from events where duplicates > 0`).toHaveLength(0)
}
