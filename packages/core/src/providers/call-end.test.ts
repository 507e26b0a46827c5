import { expect, test } from 'vitest'
import { providers } from './all.ts'
import type { Scheme } from './provider.ts'
import { telnyx } from './telnyx.ts'

test('what ends a call is something that the provider sends, as far as there are samples of it', () => {
  const found = providers.flatMap(({ name, schemes }) =>
    Object.entries(schemes).flatMap(([scheme, profile]) => {
      const { callEnd, samples } = profile as Scheme
      if (callEnd === undefined) return []
      const fields = Object.values(samples).map(({ form, json, query }) => ({ ...query, ...form, ...(json as object) }))
      const isSent =
        ('types' in callEnd && Object.keys(samples).some((type) => callEnd.types.includes(type))) ||
        ('field' in callEnd &&
          fields.some((sample) => callEnd.values.includes(String((sample as Record<string, unknown>)[callEnd.field]))))
      return [`${name} ${scheme}${isSent ? '' : ' (no sample)'}`]
    }),
  )
  expect(found).toEqual([
    'vobiz voice',
    'vobiz trunk',
    'vobiz legacy',
    'fonestorm callback',
    'twilio webhook',
    'plivo voice',
    'telnyx signed',
    'vonage jwt (no sample)',
  ])
})

test('a call of which only TeXML tells has an end as well', () => {
  const { callEnd, samples } = telnyx.provider.schemes.signed
  const statuses = Object.values(samples).flatMap(({ form }) => form?.CallStatus ?? [])
  expect(statuses.length).toBeGreaterThan(0)
  expect(callEnd).toEqual({
    types: ['call.hangup'],
    field: 'CallStatus',
    values: expect.arrayContaining([...statuses, 'busy', 'failed', 'no-answer', 'canceled']),
  })
})
