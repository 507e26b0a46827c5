import { expect, test } from 'vitest'
import { createRotation } from './rotation.ts'
import { shardPrefix, shardsBySlot, slotOf } from './shards.ts'

test('the slot of a hash tag is the one of the Redis Cluster specification', () => {
  expect(slotOf('123456789')).toBe(0x31c3 % 16_384)
  expect(slotOf('foo')).toBe(12_182)
})

test.each([3, 4, 5, 6, 7, 8])(
  'of %i masters, the second shard that is tried is on another than the first',
  (masters) => {
    const prefix = '{ringback}'
    // As redis-cli gives them out: each has the same number of slots, in one range.
    const masterOf = (shard: number) => Math.floor((slotOf(shardPrefix(prefix, shard).slice(1, -1)) * masters) / 16_384)
    for (let count = 2; count <= 64; count++) {
      const rotation = createRotation(shardsBySlot(prefix, count), async () => {})
      for (let turn = 0; turn < count; turn++) {
        const [first, second] = rotation.next().slice(0, 2).map(masterOf)
        expect(second, `${count} shards`).not.toBe(first)
      }
    }
  },
)
