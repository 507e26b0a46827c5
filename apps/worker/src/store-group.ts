import type { Group } from '@ringback/core/callback'
import type { Match } from '@ringback/core/filter'
import type { Logger } from '@ringback/core/log'
import type { Sql } from '@ringback/core/store/connect'
import { announcePartitions } from '@ringback/core/store/partitions'
import { mayBeTheData, verdictOn } from './postgres-errors.ts'
import type { Stored } from './store-callbacks.ts'
import { storePieces } from './store-pieces.ts'
import type { Suspects } from './suspects.ts'

export interface GroupDependencies {
  sql: Sql
  suspects: Suspects
  log: Logger
}

/** Stores all of them, or none and resolves to undefined if one was stored before. */
export async function storeGroups(
  sql: Sql,
  ids: readonly string[],
  group: Group,
  matched: Match[],
): Promise<Stored | undefined> {
  const [row] = await sql<{ result: Stored | null }[]>`
    select store_groups(
      ${`{${ids.join(',')}}`}::text::uuid[], ${group.callbacks}, ${group.quarantined}, ${group.dropped},
      ${JSON.stringify(matched)}, ${hasNames(group)}
    ) as result`
  // There always is a row. Without one this throws, for an answer that is missing must not pass for "stored before".
  return row!.result ?? undefined
}

/**
 * Stores one group, whatever it takes: makes a partition that is missing, and puts what Postgres refuses in quarantine. Resolves
 * to undefined if it was stored before. Rejects with what is not the group's own fault.
 */
export async function storeGroup(
  deps: GroupDependencies,
  groupId: string,
  group: Group,
  matched: Match[],
): Promise<Stored | undefined> {
  const storeWholeOrInPieces = () =>
    storeGroups(deps.sql, [groupId], group, matched).catch((error: unknown) => {
      // A group that keeps failing while others are stored is taken apart too, to find which callback is to blame.
      const isGuilty = deps.suspects.isGuilty(groupId)
      const isRefusal = (reason: unknown) =>
        !isMissingPartition(reason) && (verdictOn(reason) === 'refused' || (isGuilty && mayBeTheData(reason)))
      if (!isRefusal(error)) throw error
      return storePieces(deps, groupId, { group, matched, isRefusal })
    })
  return storeWholeOrInPieces().catch(async (error: unknown) => {
    if (!isMissingPartition(error)) throw error
    // Only once: while an old partition is being dropped, none can be made, and the group is tried again later.
    await makePartitions(deps.sql, group)
    return storeWholeOrInPieces()
  })
}

/** Whether names or nonces must be checked before storing. This searches the text, because the JSON is not parsed here. */
function hasNames({ callbacks }: Group): boolean {
  return callbacks.includes('"nonces":') || callbacks.includes('"previousName":')
}

/** Postgres reports a missing partition with the code of a check constraint, but names no constraint. */
function isMissingPartition(error: unknown): boolean {
  const { code, constraint_name: constraint } = error as { code?: unknown; constraint_name?: unknown }
  return code === '23514' && constraint === undefined
}

/**
 * Makes the partitions of a group that waited longer than they are made ahead, or whose times are of a wrong clock. They may
 * also be there already, and this session has overlooked them.
 */
async function makePartitions(sql: Sql, group: Group): Promise<void> {
  const ids = [group.callbacks, group.quarantined].flatMap((items) =>
    (JSON.parse(items) as { id: string }[]).map(({ id }) => id),
  )
  await sql`
    select ensure_partitions(week, week)
    from (
      select distinct date_trunc('week', uuid_extract_timestamp(id::uuid), 'UTC') as week
      from json_array_elements_text(${JSON.stringify(ids)}::json) as id
    ) as weeks`
  await announcePartitions(sql)
}
