import { env, resolveConfig } from '@ringback/core/config'
import type { ConfigDefinition } from '@ringback/core/config'
import { providers } from '@ringback/core/providers/all'
import { plivo } from '@ringback/core/providers/plivo'
import { fillSample } from '@ringback/core/providers/sample'
import { standardWebhooks } from '@ringback/core/providers/standard-webhooks'
import { voximplant } from '@ringback/core/providers/voximplant'
import { expect, test } from 'vitest'
import { findSample, findSender } from './find-sender.ts'

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const EVENT = 'contact.created'

const configured = (sources: ConfigDefinition['sources'] = {}) =>
  resolveConfig({ sources }, { PUBLIC_BASE_URL: 'https://hooks.example.test' })
const hooks = () => standardWebhooks({ secrets: SECRET })

test('a source is found by its name, and a provider by the first of its sources', () => {
  const config = configured({ first: hooks(), second: hooks() })
  expect(findSender('second', EVENT, {}, config).sourceName).toBe('second')
  expect(findSender('standard-webhooks', EVENT, {}, config).sourceName).toBe('first')
})

test('of a provider the source is taken that has the scheme asked for, else the event, else the first', () => {
  const config = configured({
    voice: plivo({ scheme: 'voice', secrets: 'hush' }),
    messages: plivo({ scheme: 'messaging', secrets: 'hush' }),
    'more-messages': plivo({ scheme: 'messaging', secrets: 'hush' }),
  })
  const found = (event: string, options = {}) => findSender('plivo', event, options, config).sourceName
  expect(found('message.status')).toBe('messages')
  expect(found('message.status', { scheme: 'messaging' })).toBe('messages')
  expect(found('message.status', { secret: 'other' })).toBe('messages')
  expect(found('Hangup')).toBe('voice')
  expect(() => found('Hangup', { scheme: 'messaging' })).toThrow(/"Hangup" is an event of Plivo’s scheme "voice"/)
  expect(() => found('other')).toThrow(/no sample of "other" for Plivo, scheme "voice"/)
})

test('without a source, a secret is enough', () => {
  const sender = findSender('standard-webhooks', EVENT, { secret: SECRET }, configured())
  expect(sender).toMatchObject({ sourceName: 'standard-webhooks', source: { scheme: 'signed' } })
})

test('Voximplant is played with its public credentials where nothing is configured', () => {
  expect(findSender('voximplant', 'min_balance', {}, configured()).source.usesDemoCredentials).toBe(true)
  const other = voximplant({ urlTokens: 'hush' })
  expect(findSender('voximplant', 'min_balance', {}, configured({ other })).sourceName).toBe('other')
  const config = configured({ other, voximplant: voximplant({ urlTokens: env('NOT_SET') }) })
  expect(findSender('voximplant', 'min_balance', {}, config)).toMatchObject({
    sourceName: 'voximplant',
    source: { usesDemoCredentials: true },
  })
})

test.each([
  ['nobody', EVENT, {}, /no sender for "nobody"/],
  ['off', EVENT, {}, /Source "off" is off/],
  ['standard-webhooks', EVENT, {}, /No source of Standard Webhooks is configured.*--secret/],
  ['standard-webhooks', EVENT, { secret: SECRET, scheme: 'other' }, /no scheme "other"/],
  ['standard-webhooks', EVENT, { secret: 'hush!' }, /secret 1: it must be base64/],
  ['standard-webhooks', EVENT, { secret: '' }, /--secret is empty/],
  ['standard-webhooks', 'other', { secret: SECRET }, /no sample of "other".*contact\.created/],
  ['voximplant', 'min_balance', { scheme: 'other' }, /Voximplant has no scheme "other"/],
  ['voximplant', 'min_balance', { secret: 'hush' }, /A secret alone makes no source of Voximplant/],
])('%s %s with %j says what to do', (name, event, options, message) => {
  const config = configured({ off: voximplant({ urlTokens: env('NOT_SET') }) })
  const find = () => findSender(name, event, options, config)
  expect(find).toThrow(message)
  expect(find).not.toThrow(/hush/)
})

test('another scheme of a configured source needs its own secret', () => {
  const config = configured({ hooks: hooks() })
  expect(() => findSender('hooks', EVENT, { scheme: 'other' }, config)).toThrow(/"hooks" has scheme "signed".*--secret/)
})

test('an event that the provider does not document is told from one that it does', () => {
  const isDocumented = (event: string) => findSender('voximplant', event, {}, configured()).isDocumented
  expect(isDocumented('min_balance')).toBe(true)
  expect(isDocumented('min_balnce')).toBe(false)
})

test('an event without a sample takes the shape of one that holds its data under its name', () => {
  const samples = { known: { json: { id: '{{uuid}}', type: 'known', known: { a: 1 } } } }
  const sample = findSample({ samples }, 'other')!
  expect(JSON.parse(String(fillSample(sample, new Date()).body))).toEqual({
    id: expect.any(String),
    type: 'other',
    other: {},
  })
  expect(findSample({ samples: { known: { json: { type: 'known' } } } }, 'other')).toBeUndefined()
  expect(findSample({ samples: { known: { form: { known: 'x' } } } }, 'toString')).toBeUndefined()
})

test.each(providers.map((provider) => [provider.name, provider] as const))(
  'every sample of %s can be filled in',
  (_name, { schemes }) => {
    for (const { samples } of Object.values(schemes)) {
      for (const sample of Object.values(samples)) {
        const { body } = fillSample(sample, new Date())
        expect(String(body)).not.toContain('{{')
        if (sample.json !== undefined) JSON.parse(String(body))
      }
    }
  },
)
