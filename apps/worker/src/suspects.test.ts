import { expect, test } from 'vitest'
import { createSuspects } from './suspects.ts'

/** Reports that `count` other groups were stored. */
function storeOthers(suspects: ReturnType<typeof createSuspects>, count: number): void {
  for (let other = 0; other < count; other++) suspects.onStored(`other-${other}`)
}

function stick(suspects: ReturnType<typeof createSuspects>, groupId: string, times: number): number | undefined {
  return Array.from({ length: times }, () => suspects.onStuck(groupId)).at(-1)
}

test('a group that is stuck again and again while others are stored is guilty', () => {
  const suspects = createSuspects()
  expect(stick(suspects, 'a', 4)).toBe(4)
  storeOthers(suspects, 5)
  expect(suspects.isGuilty('a')).toBe(false)
  expect(stick(suspects, 'a', 1)).toBe(5)
  expect(suspects.isGuilty('a')).toBe(true)
  expect(suspects.isGuilty('b')).toBe(false)
})

test('no group is guilty while hardly any other is stored: Postgres may be to blame', () => {
  const suspects = createSuspects()
  storeOthers(suspects, 100) // before it was stuck: that says nothing
  stick(suspects, 'a', 100)
  storeOthers(suspects, 4)
  expect(suspects.isGuilty('a')).toBe(false)
  storeOthers(suspects, 1)
  expect(suspects.isGuilty('a')).toBe(true)
})

test('a group that is stored is no suspect any more', () => {
  const suspects = createSuspects()
  stick(suspects, 'a', 5)
  storeOthers(suspects, 5)
  suspects.onStored('a')
  expect(suspects.isGuilty('a')).toBe(false)
  expect(stick(suspects, 'a', 1)).toBe(1)
})

test('of very many suspects the oldest are forgotten', () => {
  const suspects = createSuspects()
  stick(suspects, 'oldest', 5)
  for (let index = 0; index < 999; index++) suspects.onStuck(`more-${index}`)
  expect(stick(suspects, 'oldest', 1)).toBe(6)
  suspects.onStuck('one more')
  expect(stick(suspects, 'oldest', 1)).toBe(1)
})
