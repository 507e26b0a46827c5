import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createProgram } from './program.ts'

const root = join(import.meta.dirname, '../../..')
const examples = globSync(['README.md', 'docs/*.md'], { cwd: root })
  .flatMap((page) => [...readFileSync(join(root, page), 'utf8').matchAll(/^```sh\n(.*?)^```/gms)])
  .flatMap(([, block]) => [...block!.matchAll(/^(?:npm run -s ringback --|ringback) (.+?) *(?:[#|].*)?$/gm)])
  .map(([, words]) => words!)

test.each([...new Set(examples)])('"ringback %s", as a page shows it, is a command with these options', (example) => {
  const words = [...example.matchAll(/'[^']*'|<[^>]*>|[^ [\]]+/g)].map(([word]) => word.replaceAll("'", ''))
  let command = createProgram()
  for (const next of words) {
    const found = command.commands.find((one) => one.name() === next)
    if (found === undefined) break
    command = found.exitOverride()
  }
  expect(command.name()).not.toBe('ringback')
  expect(command.parseOptions(words).unknown).toEqual([])
})
