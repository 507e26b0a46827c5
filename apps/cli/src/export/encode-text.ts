import { stringify } from 'csv-stringify/sync'
import type { Column, ExportedRow } from './columns.ts'

/** Turns pages of rows into the bytes of a file; `end` gives what comes after the last page. */
export interface Encoder {
  page: (rows: readonly ExportedRow[]) => Uint8Array
  end: () => Uint8Array
}

const NOTHING = new Uint8Array()

/** Encodes one JSON object a line. Payload and headers are JSON as it was stored, with every digit. */
export function ndjsonEncoder(columns: readonly Column[]): Encoder {
  return {
    page: (rows) =>
      Buffer.from(rows.map((row) => `{${columns.map((column) => jsonField(column, row)).join(',')}}\n`).join('')),
    end: () => NOTHING,
  }
}

/** One field of the object. Stored JSON is not parsed, because JavaScript's numbers would lose digits of ids. */
function jsonField({ name, kind }: Column, row: ExportedRow): string {
  return `${JSON.stringify(name)}:${kind === 'json' ? row[name] : JSON.stringify(row[name])}`
}

/**
 * Encodes CSV as in RFC 4180, with a header. Texts are quoted, so a null is an empty field and an empty text is `""`.
 * @param forSpreadsheet put a `'` before texts that a spreadsheet would run as a formula; they are then no longer exact
 */
export function csvEncoder(columns: readonly Column[], { forSpreadsheet }: { forSpreadsheet: boolean }): Encoder {
  const names = columns.map(({ name }) => name)
  let header = true
  function lines(rows: readonly ExportedRow[]): Uint8Array {
    const text = stringify([...rows], {
      columns: names,
      header,
      record_delimiter: '\r\n',
      // Quotes every text. Otherwise a text with just a line end would go unquoted, and a null would look like an empty
      // text.
      quoted_string: true,
      escape_formulas: forSpreadsheet,
    })
    header = false
    return Buffer.from(text)
  }
  return { page: lines, end: () => (header ? lines([]) : NOTHING) }
}
