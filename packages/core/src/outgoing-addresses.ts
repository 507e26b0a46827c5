import { BlockList, isIP } from 'node:net'
import type { AddressList } from './providers/access.ts'

// Which addresses Ringback may connect to when somebody else chooses them: a host name or a redirect must not lead it into
// the network it runs in. Sources: IANA's special-purpose address registries, and the clouds' metadata addresses.

const SPECIAL_IPV4 = [
  '0.0.0.0/8', // this network
  '10.0.0.0/8', // private
  '100.64.0.0/10', // shared with other customers of a carrier (CGNAT); metadata of Alibaba Cloud
  '127.0.0.0/8', // loopback
  '168.63.129.16/32', // Azure's platform, though its address is a public one
  '169.254.0.0/16', // link-local; metadata of most clouds
  '172.16.0.0/12', // private
  '192.0.0.0/24', // protocol assignments; metadata of Oracle Cloud
  '192.0.2.0/24', // documentation
  '192.88.99.0/24', // 6to4 relays, given up
  '192.168.0.0/16', // private
  '198.18.0.0/15', // benchmarks
  '198.51.100.0/24', // documentation
  '203.0.113.0/24', // documentation
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, broadcast
]

/** Within 2000::/3; whatever is outside of it is not public anyway. */
const SPECIAL_IPV6 = [
  '2001::/23', // protocol assignments; Teredo, which wraps IPv4 addresses
  '2001:db8::/32', // documentation
  '2002::/16', // 6to4, which wraps IPv4 addresses
  '3fff::/20', // documentation
]

/** The prefix by which networks without IPv4 reach an IPv4 address, which is in the last 32 bits (RFC 6052). */
const NAT64_PREFIX = '64:ff9b::'
const NAT64_BITS = 96

const special = new BlockList()
for (const range of SPECIAL_IPV4) {
  const [address, bits] = parts(range)
  special.addSubnet(address, bits, 'ipv4') // an IPv4 address mapped into IPv6 is compared as the IPv4 one
  special.addSubnet(NAT64_PREFIX + address, NAT64_BITS + bits, 'ipv6')
}
for (const range of SPECIAL_IPV6) special.addSubnet(...parts(range), 'ipv6')

const unicast = new BlockList()
unicast.addSubnet('0.0.0.0', 0, 'ipv4')
unicast.addSubnet('2000::', 3, 'ipv6')
unicast.addSubnet(NAT64_PREFIX, NAT64_BITS, 'ipv6')

function parts(range: string): [address: string, bits: number] {
  const [address, bits] = range.split('/')
  return [address!, Number(bits)]
}

/** Whether `address`, an IP address, may be connected to: it is public, or `allowed` has it. */
export function mayConnect(address: string, allowed: AddressList): boolean {
  const plain = address.replace(/%.*$/, '') // the zone of a link-local address
  const family = isIP(plain)
  if (family === 0) return false
  if (allowed.has(plain)) return true
  const type = family === 6 ? 'ipv6' : 'ipv4'
  return unicast.check(plain, type) && !special.check(plain, type)
}

/** What to tell somebody whose destination was refused. */
export function refusalOf(address: string): string {
  return `the address ${address} is not a public one; if it is meant, name it or its range in allowAddresses`
}
