import { expect, test } from 'vitest'
import { keptOf, maskSecrets, secretsOf, secretValuesOf } from './mask-secrets.ts'

test('a secret is masked wherever it is, whole, also where it begins with another', () => {
  expect(maskSecrets('/hook/a-b and /hook/a?', ['/hook/a', '/hook/a-b'])).toBe('*** and ***?')
})

test.each([
  ['JSON as PHP writes it', String.raw`"\/hook\/se-cret?v=1.0&sig=a\/b+c%3D"`],
  ['JSON as Go writes it', String.raw`"/hook/se-cret?v=1.0\u0026sig=a/b+c%3D"`],
  ['JSON as .NET writes it', String.raw`"/hook/se-cret?v=1.0\u0026sig=a/b\u002Bc%3D"`],
  ['HTML', '"/hook/se-cret?v=1.0&amp;sig=a/b+c%3D"'],
  ['HTML by numbers', '"&#x2F;hook&#47;se-cret?v=1.0&#38;sig=a/b+c%3D"'],
  ['a URL that was decoded', '"/hook/se-cret?v=1.0&sig=a/b+c="'],
  ['a URL in a URL', `"${encodeURIComponent('/hook/se-cret?v=1.0&sig=a/b+c%3D')}"`],
])('a secret is masked in %s', (_name, answer) => {
  const url = new URL('https://example.com/hook/se-cret?v=1.0&sig=a/b+c%3D')
  expect(maskSecrets(answer, secretsOf(url))).toBe('"******"')
})

test('a query is masked by its values too, where they are long enough', () => {
  const secrets = secretValuesOf(new URL('https://example.com/?v=2&sig=0123abcd%3D'))
  expect(maskSecrets('v 2: 0123abcd= is not the signature', secrets)).toBe('v 2: *** is not the signature')
})

test('a path is masked by its segments too, where they are long enough and no names', () => {
  const secrets = secretValuesOf(new URL('https://example.com/webhook/v1/webhooks/5e7c-0123abcd'))
  const answer = '{"message":"The requested webhook \\"POST webhooks/5e7c-0123abcd\\" is not registered"}'
  expect(maskSecrets(answer, secrets)).toBe(
    '{"message":"The requested webhook \\"POST webhooks/***\\" is not registered"}',
  )
})

test('of a long answer the beginning is kept, without secrets', () => {
  const kept = keptOf('no /in/hush. '.repeat(500), ['/in/hush'])
  expect(kept).toHaveLength(2000)
  expect(kept).not.toContain('hush')
})

test('a secret of any length is masked', () => {
  const secret = '/%é😀"'.repeat(20_000)
  expect(maskSecrets(`<${secret}>`, [secret])).toBe('<***>')
})

test('of a URL path and query are secrets, and the path / is none', () => {
  const answer = 'Cannot POST /in/hush?key=hush'
  expect(maskSecrets(answer, secretsOf(new URL('https://example.com/in/hush?key=hush')))).toBe('Cannot POST ******')
  expect(maskSecrets('Cannot POST /', secretsOf(new URL('https://example.com')))).toBe('Cannot POST /')
})
