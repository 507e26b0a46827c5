import { describe, expect, test } from 'vitest'
import { addressList } from './access.ts'
import { clientAddress, publicUrl } from './request-origin.ts'

const trustedProxies = addressList(['192.0.2.0/24', '2001:db8::1'], () => {})
const target = '/callbacks/source?a=1'

function inner(headers: Record<string, string>, remoteAddress = '192.0.2.7') {
  return { target, header: (name: string) => headers[name], remoteAddress }
}

describe('the URL that the provider called', () => {
  test('is the configured one, whatever headers say', () => {
    const request = inner({ host: 'evil.test', 'x-forwarded-host': 'evil.test', 'x-forwarded-proto': 'http' })
    for (const publicBaseUrl of ['https://hooks.example.test/in', 'https://hooks.example.test/in/']) {
      expect(publicUrl({ publicBaseUrl, trustedProxies }, request)).toBe(`https://hooks.example.test/in${target}`)
    }
  })

  test.each([
    ['https://h.test/hooks', '/', 'https://h.test/hooks'],
    ['https://h.test/hooks/', '/', 'https://h.test/hooks/'],
    ['https://h.test/hooks', '/?a=1', 'https://h.test/hooks?a=1'],
    ['https://h.test/hooks/', '/?a=1', 'https://h.test/hooks/?a=1'],
    // A host alone is called with the path "/".
    ['https://h.test', '/', 'https://h.test/'],
    ['https://h.test/', '/', 'https://h.test/'],
    ['https://h.test', '/?a=1', 'https://h.test/?a=1'],
  ])('%s, called at %s, is %s: the root is the configured URL itself', (publicBaseUrl, root, expected) => {
    expect(publicUrl({ publicBaseUrl, trustedProxies }, { ...inner({}), target: root })).toBe(expected)
  })

  test('keeps the slash at its end, below a path too', () => {
    const request = { ...inner({}), target: '/callbacks/source/' }
    expect(publicUrl({ publicBaseUrl: 'https://h.test/hooks', trustedProxies }, request)).toBe(
      'https://h.test/hooks/callbacks/source/',
    )
  })

  test.each([
    [{ 'x-forwarded-proto': 'https', 'x-forwarded-host': 'hooks.example.test' }, 'https://hooks.example.test'],
    [{ 'x-forwarded-proto': 'https', host: 'hooks.example.test:8443' }, 'https://hooks.example.test:8443'],
    // Each proxy adds its own at the end: what comes first, anybody may have written.
    [{ 'x-forwarded-proto': 'http, https', 'x-forwarded-host': 'evil.test, a.test' }, 'https://a.test'],
    [{ 'x-forwarded-host': 'hooks.example.test' }, ''],
    // A proxy further out need not have touched them: the entry in its place may be the sender's.
    [
      {
        'x-forwarded-for': '198.51.100.1, 192.0.2.8',
        'x-forwarded-proto': 'https, https',
        'x-forwarded-host': 'evil.test, a.test',
      },
      'https://a.test',
    ],
  ])('is what a trusted proxy says: %o', (headers, origin) => {
    expect(publicUrl({ publicBaseUrl: undefined, trustedProxies }, inner(headers))).toBe(origin + target)
  })

  test('is not what anybody else says', () => {
    const request = inner({ 'x-forwarded-proto': 'https', 'x-forwarded-host': 'evil.test' }, '198.51.100.1')
    expect(publicUrl({ publicBaseUrl: undefined, trustedProxies }, request)).toBe(target)
  })
})

describe('the address of the sender', () => {
  test.each([
    ['directly', '198.51.100.1', undefined, '198.51.100.1'],
    ['directly, pretending to come through a proxy', '198.51.100.1', '203.0.113.5', '198.51.100.1'],
    ['through a proxy', '192.0.2.7', '198.51.100.1', '198.51.100.1'],
    ['through two', '192.0.2.7', '198.51.100.1, 192.0.2.8', '198.51.100.1'],
    ['through a proxy, with an invented one before', '192.0.2.7', '203.0.113.5, 198.51.100.1', '198.51.100.1'],
    ['as one of the trusted addresses', '192.0.2.7', '192.0.2.9', '192.0.2.9'],
    ['as one of them, through two', '192.0.2.7', '192.0.2.9, 192.0.2.8', '192.0.2.9'],
    ['pretending to be one of them', '192.0.2.7', '192.0.2.9, 198.51.100.1, 192.0.2.8', '198.51.100.1'],
    ['through a proxy that says an empty word', '192.0.2.7', ' , ', '192.0.2.7'],
    ['through a proxy in IPv6 clothes', '::ffff:192.0.2.7', '198.51.100.1', '198.51.100.1'],
    ['through a proxy by IPv6', '2001:db8::1', '2001:db8::99', '2001:db8::99'],
    ['through a proxy that writes the port', '192.0.2.7', '198.51.100.1:4711', '198.51.100.1'],
    ['through a proxy that writes the port, by IPv6', '192.0.2.7', '[2001:db8::99]:4711', '2001:db8::99'],
    ['through a proxy that says nothing', '192.0.2.7', undefined, '192.0.2.7'],
  ])('%s', (_how, remoteAddress, forwardedFor, expected) => {
    const request = inner(forwardedFor === undefined ? {} : { 'x-forwarded-for': forwardedFor }, remoteAddress)
    expect(clientAddress({ trustedProxies }, request)).toBe(expected)
  })
})

test('addresses may be single ones and ranges of both families, and others are none', () => {
  const problems: string[] = []
  const list = addressList(['10.0.0.0/8', '192.0.2.1', '2001:db8::/32'], (text) => problems.push(text))
  const members = ['10.255.0.1', '::ffff:10.0.0.1', '192.0.2.1', '2001:db8:1::1']
  expect(members.filter((address) => !list.has(address))).toEqual([])
  const others = ['11.0.0.1', '192.0.2.2', '2001:db9::1', 'localhost', '', '10.0.0.1, 10.0.0.2', undefined]
  expect(others.filter((address) => list.has(address))).toEqual([])
  expect(problems).toEqual([])
  const wrong = ['10.0.0.0/33', 'example.test', '10.0.0.0/', '::/129', '', '10.0.0.0/8/24']
  addressList(wrong, (text) => problems.push(text))
  expect(problems).toHaveLength(wrong.length)
})
