import { createHmac } from 'node:crypto'
import { resolveConfig } from '@ringback/core/config'
import { generic } from '@ringback/core/providers/generic'
import { expect, test } from 'vitest'
import { headersToKeep, redact } from './headers.ts'

const noRules = { keptHeaders: [], credentialHeaders: [], urlTokens: [] }

test('credentials are never kept, signatures are', () => {
  const headers = {
    authorization: 'Basic c2VjcmV0',
    cookie: 'session=hush',
    'x-api-key': 'hush',
    'auth-token': 'hush',
    'parent-auth-token': 'hush',
    'x-client-secret': 'hush',
    x_api_key: 'hush',
    'x-access-key': 'hush',
    'x-auth': 'hush',
    'x-application-id': 'hush',
    'x-passwd': 'hush',
    'x-vobiz-signature-v3': 'sig',
  }
  const kept = headersToKeep(headers, noRules, redact, 8192)
  expect(JSON.stringify(kept)).not.toMatch(/hush|c2Vj/)
  expect(kept['x-vobiz-signature-v3']).toBe('sig')
})

test('what belongs to the connection is left out, and repeated headers stay whole', () => {
  const headers = { host: 'h', connection: 'close', 'content-length': '5', 'x-a': ['1', '2'] }
  expect(headersToKeep(headers, noRules, redact, 8192)).toEqual({ 'x-a': '1,2' })
})

test('headers of any size are kept up to a limit in all', () => {
  const many = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`x-${index}`, 'v'.repeat(1000)]))
  expect(JSON.stringify(headersToKeep(many, noRules, redact, 8192)).length).toBeLessThan(9 * 1024)
})

test('large headers push out neither a signature nor what has room beside them', () => {
  const headers = {
    'x-forwarded-client-cert': 'v'.repeat(9000),
    'x-provider-signature': 's',
    ...Object.fromEntries(Array.from({ length: 9 }, (_, index) => [`x-${index}`, 'v'.repeat(1000)])),
    'x-signature': 's',
  }
  const kept = headersToKeep(headers, { ...noRules, keptHeaders: ['x-signature'] }, redact, 8192)
  expect(kept).toMatchObject({ 'x-signature': 's', 'x-provider-signature': 's' })
  expect(kept).not.toHaveProperty('x-forwarded-client-cert')
})

test('a signature in a header that looks like a credential is kept, unless what came in it is a password', () => {
  const rules = { ...noRules, keptHeaders: ['authorization'] }
  expect(headersToKeep({ authorization: 'Bearer a.b.c' }, rules, redact, 8192)).toEqual({
    authorization: 'Bearer a.b.c',
  })
  for (const authorization of ['basic aHVzaA==', 'Bearer hush']) {
    expect(headersToKeep({ authorization }, rules, redact, 8192)).toEqual({ authorization: '[redacted]' })
  }
})

test('the header that carries signatures by configuration is kept, whatever they look like', () => {
  const rules = { ...noRules, keptHeaders: ['authorization'], signatureHeader: 'authorization' }
  const authorization = 'Bearer 0a1b'
  expect(headersToKeep({ authorization }, rules, redact, 8192)).toEqual({ authorization })
  expect(headersToKeep({ authorization }, { ...rules, credentialHeaders: ['authorization'] }, redact, 8192)).toEqual({
    authorization: '[redacted]',
  })
})

test('a header that is to be kept is kept where it belongs to the connection, and only if it came', () => {
  const rules = { ...noRules, keptHeaders: ['host', 'x-not-sent'] }
  expect(headersToKeep({ host: 'h', connection: 'close' }, rules, redact, 8192)).toEqual({ host: 'h' })
})

test.each(['X-Message-Token', 'X-Access-Key', 'X-Request-Auth', 'Cookie', 'Host', 'X-Id'])(
  'what came under a wrong secret is verified by its kept headers once the secret is right, under its own name: %s',
  (header) => {
    const sourceWith = (secrets: string) =>
      resolveConfig(
        {
          sources: {
            source: generic({
              secrets,
              signature: {
                algorithm: 'hmac-sha256',
                header: 'Authorization',
                prefix: 'Bearer ',
                encoding: 'hex',
                text: `{header:${header}}.{body}`,
              },
              callbackId: { header },
            }),
          },
        },
        {},
      ).sources.get('source')!
    const read = (secrets: string, headers: Record<string, string>) =>
      sourceWith(secrets).read({
        method: 'POST',
        url: '',
        body: Buffer.from('{}'),
        header: (name) => headers[name],
        remoteAddress: undefined,
        receivedAt: new Date(),
      })
    for (const id of ['m1', 'm2']) {
      const signature = createHmac('sha256', 'right').update(`${id}.{}`).digest('hex')
      const came = { [header.toLowerCase()]: id, authorization: `Bearer ${signature}` }
      expect(read('wrong', came)).toMatchObject({ reason: 'signature_mismatch' })
      const kept = headersToKeep(came, sourceWith('wrong'), redact, 8192)
      expect(read('right', kept)).toMatchObject({ callbacks: [{ callbackId: id }] })
    }
  },
)

test('a header that a source takes credentials by is never kept, whatever it is called', () => {
  const rules = { ...noRules, keptHeaders: ['authorization'], credentialHeaders: ['authorization', 'x-customer'] }
  const kept = headersToKeep({ 'x-customer': 'hush', authorization: 'Bearer hush.hush.hush' }, rules, redact, 8192)
  expect(kept).toEqual({ 'x-customer': '[redacted]', authorization: '[redacted]' })
})
