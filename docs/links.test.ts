import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')

test.each(globSync(['*.md', 'docs/**/*.md'], { cwd: root }))(
  'every link of %s leads to a file and a heading',
  (page) => {
    const links = [...proseOf(page).matchAll(/\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)/g)]
    const broken = links.filter(([, path, anchor]) => {
      const target = path === '' ? page : join(dirname(page), path!)
      return !existsSync(join(root, target)) || (anchor !== '' && !anchorsOf(target).includes(anchor!))
    })
    expect(broken.map(([link]) => link)).toEqual([])
  },
)

/** The page without its blocks of code, where a `#` begins a comment. */
function proseOf(page: string): string {
  return readFileSync(join(root, page), 'utf8').replaceAll(/^```.*?^```/gms, '')
}

/** The headings as GitHub names them in links. */
function anchorsOf(page: string): string[] {
  const headings = [...proseOf(page).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => heading!.toLowerCase())
  return headings.map((heading) => heading.replaceAll(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-'))
}
