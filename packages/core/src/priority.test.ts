import { execFile } from 'node:child_process'
import { getPriority } from 'node:os'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

test('whoever starts a process at a lower priority keeps it', async () => {
  const script = `
    const { lowerPriority } = await import(${JSON.stringify(`${import.meta.dirname}/priority.ts`)})
    lowerPriority()
    console.log((await import('node:os')).getPriority())`
  const args = ['-n', '15', process.execPath, '--input-type=module', '--eval', script]
  const { stdout } = await promisify(execFile)('nice', args)
  expect(Number(stdout)).toBe(Math.min(getPriority() + 15, 19))
})
