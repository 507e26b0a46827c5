import { expect, test } from 'vitest'
import { fromIsoTime } from './proof.ts'

test('a time without its zone is none, for it would be taken for that of the machine', () => {
  for (const zone of ['Z', '+00:00', '+0000']) {
    expect(fromIsoTime(`2026-01-02T03:04:05${zone}`)).toEqual(new Date('2026-01-02T03:04:05Z'))
  }
  for (const text of ['2026-01-02T03:04:05', '2026-01-02 03:04:05Z', '2026-13-02T03:04:05Z', undefined]) {
    expect(fromIsoTime(text)).toBeUndefined()
  }
})
