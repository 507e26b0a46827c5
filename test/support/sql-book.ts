import { readFile } from 'node:fs/promises'

/** The recipes of docs/sql.md: each heading with its query. */
export async function recipes(): Promise<{ title: string; query: string }[]> {
  const page = await readFile(new URL('../../docs/sql.md', import.meta.url), 'utf8')
  return [...page.matchAll(/^### ([^\n]+)\n[^#]*?```sql\n(.+?);\n```/gms)].map(([, title, query]) => ({
    title: title!,
    query: query!,
  }))
}
