import { expect, test } from 'vitest'
import { maskUrl } from './mask-url.ts'

test.each([
  ['https://h.test/callbacks/a', 'https://h.test/callbacks/a'],
  ['https://h.test/callbacks/a/hush', 'https://h.test/callbacks/a/***'],
  ['https://h.test/in/callbacks/a/other?From=%2B1555', 'https://h.test/in/callbacks/a/***?...'],
  ['https://user:pass@h.test/callbacks/a', 'https://h.test/callbacks/a'],
  ['https://h.test/moved/hush', 'https://h.test/moved/***'],
  ['/a/b%20c/d', '/a/***/d'],
])('%s is printed as %s', (url, printed) => {
  expect(maskUrl(url, ['hush', 'b c'])).toBe(printed)
})
