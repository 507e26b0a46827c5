import type { Sql } from '@ringback/core/store/connect'
import { InvalidArgumentError } from 'commander'
import type { PendingQuery, Row } from 'postgres'
import { likePattern } from './options.ts'

/** The states of a delivery. */
export const STATUSES = ['pending', 'succeeded', 'dead', 'canceled'] as const
export type Status = (typeof STATUSES)[number]

/** A filter of deliveries; every given condition must hold. */
export interface DeliveryFilter {
  ids?: readonly string[]
  source?: string
  /** `*` stands for any characters. */
  type?: string
  handler?: string
  status?: readonly Status[]
  /** From when on the event was received; `until` is before when. */
  since?: Date
  until?: Date
  field?: FieldValue[]
  /** A part of the last error, in upper or lower case. */
  error?: string
}

/** A field of the payload and its value as text. */
export interface FieldValue {
  path: string
  value: string
}

/** Reads one `path=value` and adds it to those read before. Throws where it is none. */
export function fieldValue(text: string, before: FieldValue[] = []): FieldValue[] {
  const [, path, value] = /^([^=]+)=(.*)$/s.exec(text) ?? []
  if (path === undefined || value === undefined) {
    throw new InvalidArgumentError('It must be path=value, such as message.to=4930123456.')
  }
  return [...before, { path, value }]
}

/** The SQL `from ... where` of deliveries `d` with their events `e` that `filter` selects; `and ...` may follow. */
export function fromDeliveries(sql: Sql, filter: DeliveryFilter): PendingQuery<Row[]> {
  const { ids, source, type, handler, status, since, until, field = [], error } = filter
  const none = sql``
  return sql`
    from deliveries as d
    ${eventsOf(sql, source !== undefined || type !== undefined)}
    where true
      ${ids === undefined ? none : sql`and d.id in (select json_array_elements_text(${JSON.stringify(ids)}::json)::uuid)`}
      ${source === undefined ? none : sql`and e.source = ${source}`}
      ${type === undefined ? none : sql`and e.type like ${likePattern(type)}`}
      ${handler === undefined ? none : sql`and d.handler = ${handler}`}
      ${status === undefined ? none : sql`and d.status in ${sql(status)}`}
      ${since === undefined ? none : sql`and d.event_received_at >= ${since}`}
      ${until === undefined ? none : sql`and d.event_received_at < ${until}`}
      ${error === undefined ? none : sql`and strpos(lower(d.last_error), lower(${error})) > 0`}
      ${field.length === 0 ? none : sql`and not exists (select from ${fields(sql, field)} where e.payload #>> string_to_array(f.path, '.') is distinct from f.value)`}`
}

/**
 * Joins each delivery's event. Postgres expects far fewer rows of this join than there are, and so would join and sort all
 * deliveries for each page of them; `offset 0` makes it look up one event after the other. Where events are filtered, the few
 * of a seldom source or type are found first instead.
 */
function eventsOf(sql: Sql, areFiltered: boolean): PendingQuery<Row[]> {
  return areFiltered
    ? sql`join events as e on e.id = d.event_id and e.received_at = d.event_received_at`
    : sql`cross join lateral (select * from events where id = d.event_id and received_at = d.event_received_at offset 0) as e`
}

function fields(sql: Sql, field: FieldValue[]): PendingQuery<Row[]> {
  return sql`json_to_recordset(${JSON.stringify(field)}::json) as f (path text, value text)`
}
