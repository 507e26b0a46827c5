import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { GROWING_FLAG } from './heap.ts'

test('V8 knows the flag: one that it does not know would only be complained of', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--v8-options'], { maxBuffer: 10 * 1024 * 1024 })
  expect(stdout).toContain(`${GROWING_FLAG.split('=')[0]} `)
})
