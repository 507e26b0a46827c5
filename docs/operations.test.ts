import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')

/** Messages that are put together, and what they come to. */
const COMPOSED: Record<string, (file: string) => string[]> = {
  '${name}.failed': (file) => matches(file, /\brepeat\(\s*'([a-z]+)'/g).map((name) => `${name}.failed`),
  'alert.${transition}': () => ['alert.raised', 'alert.reminded', 'alert.resolved'],
}

test('the table of log lines in operations.md has every line that the programs write, and no other', () => {
  const files = globSync(['apps/*/src/**/*.ts', 'packages/core/src/**/*.ts'], { cwd: root })
    .filter((path) => !path.endsWith('.test.ts'))
    .map((path) => readFileSync(join(root, path), 'utf8'))
  const written = files.flatMap((file) => messagesIn(file).flatMap((message) => COMPOSED[message]?.(file) ?? [message]))

  const [, section] = readFileSync(join(root, 'docs/operations.md'), 'utf8').split('\n## Log\n')
  const cells = matches(section!.split('\n## ')[0]!, /^\| (`.*?) +\|/gm)
  const described = cells.flatMap((cell) => matches(cell, /`([a-z]+\.[a-z_]+)`/g))

  expect(described.toSorted()).toEqual([...new Set(written)].toSorted())
})

/** The last argument of each call of a logger in this file, where it is written there as `noun.verb`. */
function messagesIn(file: string): string[] {
  const calls = file.split(/\blog(?:\.(?:trace|debug|info|warn|error|fatal)|\[.*\])\(/).slice(1)
  return calls.flatMap(
    (call) => /['`]((?:[a-z]+|\$\{name\})\.(?:[a-z_]+|\$\{transition\}))['`],?\s*\)/.exec(call)?.[1] ?? [],
  )
}

function matches(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map(([, found]) => found!)
}
