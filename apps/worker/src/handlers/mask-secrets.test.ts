import { expect, test } from 'vitest'
import { maskSecrets, secretsOf } from './mask-secrets.ts'

test('a secret is masked wherever it is, whole, also where it begins with another', () => {
  expect(maskSecrets('/hook/a-b and /hook/a?', ['/hook/a', '/hook/a-b'])).toBe('*** and ***?')
})

test('of a URL path and query are secrets, and the path / is none', () => {
  const answer = 'Cannot POST /in/hush?key=hush'
  expect(maskSecrets(answer, secretsOf(new URL('https://example.com/in/hush?key=hush')))).toBe('Cannot POST ******')
  expect(maskSecrets('Cannot POST /', secretsOf(new URL('https://example.com')))).toBe('Cannot POST /')
})
