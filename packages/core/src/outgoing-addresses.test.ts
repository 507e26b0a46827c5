import { expect, test } from 'vitest'
import { mayConnect } from './outgoing-addresses.ts'
import { addressList } from './providers/access.ts'

const allow = (...ranges: string[]) =>
  addressList(ranges, (problem) => {
    throw new Error(problem)
  })

test.each([
  ['loopback', '127.0.0.1', '127.8.9.10', '::1'],
  ['private', '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', 'fc00::1', 'fd12:3456::1'],
  ['link-local', '169.254.1.1', 'fe80::1', 'fe80::1%eth0', 'fec0::1'],
  ['metadata', '169.254.169.254', 'fd00:ec2::254', '100.100.100.200', '168.63.129.16', '192.0.0.192'],
  ['of a carrier', '100.64.0.1', '100.127.255.255'],
  ['multicast, broadcast and reserved', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255', 'ff02::1'],
  ['unspecified', '0.0.0.0', '0.1.2.3', '::'],
  ['documentation and benchmarks', '192.0.2.1', '198.51.100.1', '203.0.113.1', '198.18.0.1', '2001:db8::1', '3fff::1'],
  ['IPv4 in IPv6', '::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:10.0.0.1', '::127.0.0.1', '::ffff:0:127.0.0.1'],
  ['IPv4 through NAT64', '64:ff9b::127.0.0.1', '64:ff9b::a9fe:a9fe', '64:ff9b:1::10.0.0.1'],
  ['IPv4 in tunnels', '192.88.99.1', '2002:7f00:1::1', '2001:0:4136:e378:8000:63bf:3fff:fdd2'],
  ['no address', '', 'localhost', '1.2.3', '127.1', '300.1.1.1', '::g'],
])('no connection is made to what is %s', (_what, ...addresses) => {
  for (const address of addresses) expect([address, mayConnect(address, allow())]).toEqual([address, false])
})

test('connections are made to public addresses, of both families', () => {
  const addresses = [
    '1.1.1.1',
    '8.8.8.8',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '172.15.255.255',
    '172.32.0.0',
    '192.167.255.255',
    '223.255.255.255',
    '2606:4700::1111',
    '2a00:1450:4001::1',
    '::ffff:1.1.1.1',
    '64:ff9b::1.1.1.1',
  ]
  for (const address of addresses) expect([address, mayConnect(address, allow())]).toEqual([address, true])
})

test('what allowAddresses names may be connected to, and nothing beside it', () => {
  const allowed = allow('10.1.0.0/16', '127.0.0.1', 'fd00::/8')
  for (const address of ['10.1.2.3', '127.0.0.1', '::ffff:10.1.2.3', '::ffff:7f00:1', 'fd12::1'])
    expect([address, mayConnect(address, allowed)]).toEqual([address, true])
  for (const address of ['10.2.0.1', '127.0.0.2', 'fc00::1', '169.254.169.254'])
    expect([address, mayConnect(address, allowed)]).toEqual([address, false])
})
