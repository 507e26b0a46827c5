import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')

test('whatever a documented query reads is in the table of what one can rely on', () => {
  const shown = globSync('docs/*.md', { cwd: root })
    .flatMap((page) => [...textOf(page).matchAll(/^```sql\n(.*?)^```/gms)])
    .map(([, query]) => query!)
    .join('\n')
  const made = globSync('migrations/*.sql', { cwd: root })
    .flatMap((path) => [...textOf(path).matchAll(/^create (?:table|view|(?:or replace )?function|aggregate) (\w+)/gm)])
    .map(([, name]) => name!)
  const [, table] = /^\| table (.*?)^$/ms.exec(textOf('docs/sql.md'))!
  const described = [...table!.matchAll(/^\| (.+?) +\|/gm)].map(([, cell]) => cell!).join(' ')

  const used = [...new Set(made)].filter((name) => new RegExp(`(?:from|join) ${name}\\b|\\b${name}\\(`).test(shown))
  expect(used).toContain('events')
  expect(used.filter((name) => !new RegExp(`\`${name}\\b`).test(described))).toEqual([])
})

function textOf(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}
