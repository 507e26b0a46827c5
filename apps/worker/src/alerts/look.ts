import type { Config } from '@ringback/core/config'
import type { TransactionSql } from '@ringback/core/store/connect'
import type { Condition } from './transitions.ts'

// What all looks have in common. Every look is a few index lookups, however much there is in the tables: what could be many
// is counted up to a limit.

export interface LookDependencies {
  sql: TransactionSql
  config: Pick<Config, 'sources' | 'handlers' | 'alerts'>
  /** The subjects of the open alerts of the kind that is looked for. */
  openSubjects: readonly string[]
  /** How long the oldest callbacks in the queue have waited there. */
  queueAgeMs: () => Promise<number>
}

/** Finds what is wrong at this moment. */
export type Look = (deps: LookDependencies) => Promise<Condition[]>

/** Nothing is counted beyond this, because the last reminder comes at a thousand. */
export const MOST_COUNTED = 1000

/** A count as people read it. */
export const atLeast = (count: number) => (count >= MOST_COUNTED ? `${MOST_COUNTED} or more` : String(count))

/** What ingest dates later than this was dated by a clock that is ahead. */
export const MOST_AHEAD = '1 minute'
