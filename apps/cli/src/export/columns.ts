/** The type of a column in a Parquet file; the other formats have text. */
export type ColumnKind = 'uuid' | 'time' | 'text' | 'json' | 'integer' | 'bytes'

export interface Column {
  name: string
  kind: ColumnKind
  nullable?: boolean
}

/** The columns of an export, in its order: those of the table events. */
export const COLUMNS: readonly Column[] = [
  { name: 'id', kind: 'uuid' },
  { name: 'received_at', kind: 'time' },
  { name: 'source', kind: 'text' },
  { name: 'account_id', kind: 'text' },
  { name: 'callback_id', kind: 'text' },
  { name: 'type', kind: 'text' },
  { name: 'call_id', kind: 'text', nullable: true },
  { name: 'verified_by', kind: 'text' },
  { name: 'occurred_at', kind: 'time' },
  { name: 'stored_at', kind: 'time' },
  // Null where it is too long as text.
  { name: 'payload', kind: 'json', nullable: true },
  { name: 'method', kind: 'text' },
  { name: 'url', kind: 'text' },
  { name: 'headers', kind: 'json' },
  { name: 'duplicates', kind: 'integer' },
  { name: 'last_duplicate_at', kind: 'time', nullable: true },
  { name: 'secret', kind: 'integer', nullable: true },
  { name: 'would_refuse', kind: 'text', nullable: true },
  { name: 'traceparent', kind: 'text', nullable: true },
]

/** The callback's own bytes, only on request: they are as large again as the payload. */
export const RAW: Column = { name: 'raw', kind: 'bytes' }

/** A row as Postgres writes it: times in ISO 8601 with microseconds, json with every digit, bytes in base64. */
export type ExportedRow = Record<string, string | number | null>
