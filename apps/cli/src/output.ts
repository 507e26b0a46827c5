import type { Command } from 'commander'

/** Whether the user asked for JSON, on the command itself or before it. */
export function wantsJson(command: Command): boolean {
  return command.optsWithGlobals<{ json?: boolean }>().json === true
}

/** A value as JSON on one line, or as text for people. */
export function print(command: Command, value: unknown, text: string): void {
  console.log(wantsJson(command) ? JSON.stringify(value) : text)
}

/** Progress of long work: on standard error, so that the result can be piped, and only where somebody watches. */
export function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`)
}

/** How to get the next page of a list, where there may be one. Whoever reads JSON has the last id already. */
export function showNextPage(command: Command, shown: readonly { id: string }[], limit: number): void {
  const last = shown.at(-1)
  if (last === undefined || shown.length < limit || wantsJson(command)) return
  console.error(`There may be more: --before ${last.id}`)
}

/** Rows in columns as wide as their longest value. */
export function table(rows: Record<string, string | number>[]): string {
  const names = Object.keys(rows[0] ?? {})
  const widths = names.map((name) => Math.max(name.length, ...rows.map((row) => String(row[name]).length)))
  const line = (cells: (string | number)[]) =>
    cells.map((cell, index) => String(cell).padEnd(widths[index]!)).join('  ')
  return [names, ...rows.map((row) => names.map((name) => row[name]!))].map((cells) => line(cells).trimEnd()).join('\n')
}
