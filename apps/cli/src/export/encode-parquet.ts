import { ByteWriter, ParquetWriter } from 'hyparquet-writer'
import type { SchemaElement } from 'hyparquet-writer'
import type { Column, ColumnKind, ExportedRow } from './columns.ts'
import type { Encoder } from './encode-text.ts'

/** The rows and characters at which a row group is written. It is in memory until then. */
const GROUP_ROWS = 50_000
const GROUP_CHARACTERS = 16 * 2 ** 20

type SchemaOfKind = Pick<SchemaElement, 'type' | 'type_length' | 'converted_type' | 'logical_type'>

const SCHEMA: Record<ColumnKind, SchemaOfKind> = {
  uuid: { type: 'FIXED_LEN_BYTE_ARRAY', type_length: 16, logical_type: { type: 'UUID' } },
  time: { type: 'INT64', logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'MICROS' } },
  text: { type: 'BYTE_ARRAY', converted_type: 'UTF8', logical_type: { type: 'STRING' } },
  // As text: the writer would print a JSON column again, and readers know what to do with text.
  json: { type: 'BYTE_ARRAY', converted_type: 'UTF8', logical_type: { type: 'STRING' } },
  integer: { type: 'INT32' },
  bytes: { type: 'BYTE_ARRAY' },
}

/** Parquet with typed columns, compressed by Snappy, in row groups of bounded size. */
export function parquetEncoder(columns: readonly Column[]): Encoder {
  const writer = new ByteWriter()
  const schema: SchemaElement[] = [
    { name: 'events', num_children: columns.length },
    ...columns.map(({ name, kind, nullable = false }) => ({
      name,
      repetition_type: nullable ? ('OPTIONAL' as const) : ('REQUIRED' as const),
      ...SCHEMA[kind],
    })),
  ]
  const parquet = new ParquetWriter({ writer, schema, createdBy: 'ringback' })
  let rows: ExportedRow[] = []
  let characters = 0

  function writeGroup(): Uint8Array {
    const columnData = columns.map(({ name, kind }) => ({
      name,
      data: rows.map((row) => valueOf(kind, row[name]!)),
      // Pages of one column are seldom read alone, and an index would remember each of them until the end.
      offsetIndex: false,
    }))
    void parquet.write({ columnData, rowGroupSize: rows.length })
    rows = []
    characters = 0
    return taken()
  }

  /** What the writer has written since the last time; it keeps no bytes that are taken. */
  function taken(): Uint8Array {
    const bytes = writer.getBytes().slice()
    writer.index = 0
    return bytes
  }

  return {
    page(page) {
      rows.push(...page)
      characters += page.reduce((sum, row) => sum + lengthOf(row), 0)
      return rows.length >= GROUP_ROWS || characters >= GROUP_CHARACTERS ? writeGroup() : taken()
    },
    end() {
      const last = rows.length > 0 ? writeGroup() : taken()
      void parquet.finish()
      return Buffer.concat([last, taken()])
    },
  }
}

function valueOf(kind: ColumnKind, value: string | number | null): unknown {
  if (value === null) return undefined
  if (kind === 'time') return microseconds(value as string)
  if (kind === 'bytes') return new Uint8Array(Buffer.from(value as string, 'base64'))
  return value
}

/** Microseconds since 1970 of a time with six digits after the second. */
function microseconds(time: string): bigint {
  return BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1000n + BigInt(time.slice(20, 26))
}

function lengthOf(row: ExportedRow): number {
  let length = 0
  for (const value of Object.values(row)) if (typeof value === 'string') length += value.length
  return length
}
