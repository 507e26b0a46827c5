/** A Markdown table; an empty text if there are no rows. */
export function table(columns: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  if (rows.length === 0) return ''
  return [columns, columns.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

/** A number without its fraction, as `1,234,567`. */
export function whole(value: number): string {
  return Math.round(value).toLocaleString('en')
}
