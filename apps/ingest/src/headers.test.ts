import { expect, test } from 'vitest'
import { headersToKeep } from './headers.ts'

test('credentials are never kept, signatures are', () => {
  const kept = headersToKeep({
    authorization: 'Basic c2VjcmV0',
    cookie: 'session=hush',
    'x-api-key': 'hush',
    'auth-token': 'hush',
    'parent-auth-token': 'hush',
    'x-client-secret': 'hush',
    'x-vobiz-signature-v3': 'sig',
  })
  expect(JSON.stringify(kept)).not.toMatch(/hush|c2Vj/)
  expect(kept['x-vobiz-signature-v3']).toBe('sig')
})

test('what belongs to the connection is left out, and repeated headers stay whole', () => {
  expect(headersToKeep({ host: 'h', connection: 'close', 'content-length': '5', 'x-a': ['1', '2'] })).toEqual({
    'x-a': '1,2',
  })
})

test('headers of any size are kept up to 8 KiB in all', () => {
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`x-${index}`, 'v'.repeat(1000)]))
  expect(JSON.stringify(headersToKeep(many)).length).toBeLessThan(9 * 1024)
})
