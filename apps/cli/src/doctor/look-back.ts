import { events, quarantine } from '@ringback/core/store/schema'
import { and, desc, eq, isNull, notLike, sql } from 'drizzle-orm'
import type { SQL } from 'drizzle-orm'
import type { PostgresJsDatabase } from 'drizzle-orm/postgres-js'
import { diagnose } from './diagnose.ts'
import type { Examination } from './examination.ts'
import { USER_AGENT } from './send-sample.ts'

// Finds out why the provider's own requests were refused.

/**
 * Reports what most of the `recent` newest refusals have in common. A refusal that nothing would have let in may be an attack, and is
 * a problem only if nothing of this source was ever accepted.
 */
export async function lookBack(database: PostgresJsDatabase, examination: Examination, recent: number): Promise<void> {
  const { name, report } = examination
  const rows = await database
    .select()
    .from(quarantine)
    .where(and(eq(quarantine.source, name), isNull(quarantine.releasedAt), isNoSample(quarantine)))
    .orderBy(desc(quarantine.receivedAt))
    .limit(recent)
  if (rows.length === 0) return
  const isTaken = await hasEvents(database, name)
  const found = Map.groupBy(
    rows.map((row) => ({ row, diagnosis: diagnose(row, examination) })),
    ({ diagnosis }) =>
      diagnosis.kind === 'passes' ? 'passes' : `(${diagnosis.reason}): ${diagnosis.remedy ?? diagnosis.advice}`,
  )
  for (const [text, [{ row, diagnosis }, ...others]] of found as Map<string, [Found, ...Found[]]>) {
    const count = `Refused before, ${others.length + 1} of the newest ${rows.length}`
    if (diagnosis.kind === 'passes') {
      report(
        'problem',
        `${count}: what would pass now. Let it in with "ringback quarantine release --source ${name} --yes"`,
      )
      continue
    }
    const level = diagnosis.remedy === undefined && isTaken ? 'note' : 'problem'
    report(level, `${count}, such as ${row.id} ${text}`)
  }
}

interface Found {
  row: typeof quarantine.$inferSelect
  diagnosis: ReturnType<typeof diagnose>
}

/** Whether anything but samples of this command was ever accepted from the source. */
async function hasEvents(database: PostgresJsDatabase, name: string): Promise<boolean> {
  const where = and(eq(events.source, name), isNoSample(events))
  const found = await database.select({ id: events.id }).from(events).where(where).limit(1)
  return found.length > 0
}

function isNoSample({ headers }: typeof events | typeof quarantine): SQL {
  return notLike(sql`coalesce(${headers} ->> 'user-agent', '')`, `${USER_AGENT}%`)
}
