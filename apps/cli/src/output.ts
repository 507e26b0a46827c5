import type { Command } from 'commander'

/** Whether the user asked for JSON, on the command itself or before it. */
export function wantsJson(command: Command): boolean {
  return command.optsWithGlobals<{ json?: boolean }>().json === true
}

/** Ends the command if its output is lost: nobody reads it any more, or the disk is full. The console alone would say nothing. */
export function endWhenOutputIsLost(): void {
  process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
    const reason =
      code === 'EPIPE' ? 'Nobody reads the standard output any more' : `The standard output is lost: ${message}`
    console.error(reason)
    process.exit(1)
  })
}

/** Prints a value as JSON on one line, or as text for people; if there is no such text, as JSON with a field a line. */
export function print(command: Command, value: unknown, text = JSON.stringify(value, undefined, 2)): void {
  console.log(wantsJson(command) ? JSON.stringify(value) : asLines(text))
}

/** A text of one line or more, of which each is as {@link oneLine} has it. */
export function asLines(text: string): string {
  return text.split('\n').map(oneLine).join('\n')
}

/** Characters that move the cursor, change what is on the screen or in which direction it is read, or end a line. */
const CONTROL = /[\p{Cc}\p{Cf}\u2028\u2029]/gu

/**
 * A text as people may see it, with escapes as in JSON for characters that do something to a terminal: much of what is shown
 * was chosen by senders, even by those who could not sign.
 */
export function oneLine(text: string): string {
  return text.replaceAll(CONTROL, (character) => character.split('').map(escaped).join(''))
}

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
}

type Cells = Record<string, string | number>

/** Prints a list as JSON with one row a line, or as a table for people. An empty list is the text `none` for people. */
export function printList<Row>(
  command: Command,
  rows: readonly Row[],
  { cells, none }: { cells: (row: Row) => Cells; none: string },
): void {
  if (wantsJson(command)) for (const row of rows) console.log(JSON.stringify(row))
  else console.log(rows.length > 0 ? table(rows.map(cells)) : none)
}

const SHOWN_ERROR_LENGTH = 60

/** An error as it is shown in a table: its beginning, on one line. */
export function errorCell(error: string | null): string {
  return (error ?? '').replaceAll(/\s+/g, ' ').slice(0, SHOWN_ERROR_LENGTH)
}

/** Shows progress of long work: on standard error, so that the result can be piped, and only on a terminal. */
export function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
}

/** Says how to get the next page of a list, if there may be one. Whoever reads JSON has the last id already. */
export function showNextPage(command: Command, shown: readonly { id: string }[], limit: number): void {
  const last = shown.at(-1)
  if (last === undefined || shown.length < limit || wantsJson(command)) return
  console.error(`There may be more: --before ${last.id}`)
}

/** Rows in columns as wide as their longest value. */
export function table(rows: Cells[]): string {
  const names = Object.keys(rows[0] ?? {})
  const lines = [names, ...rows.map((row) => names.map((name) => oneLine(String(row[name]))))]
  const widths = names.map((_name, column) => Math.max(...lines.map((cells) => cells[column]!.length)))
  const line = (cells: string[]) => cells.map((cell, column) => cell.padEnd(widths[column]!)).join('  ')
  return lines.map((cells) => line(cells).trimEnd()).join('\n')
}
