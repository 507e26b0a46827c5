import { env, resolveConfig } from '@ringback/core/config'
import type { SourceDefinition } from '@ringback/core/config'
import { providers } from '@ringback/core/providers/all'
import { infobip } from '@ringback/core/providers/infobip'
import type { Sample, SchemeProfile, Source } from '@ringback/core/providers/provider'
import { standardWebhooks } from '@ringback/core/providers/standard-webhooks'
import { vobiz } from '@ringback/core/providers/vobiz'
import { demoCredentials, voximplant } from '@ringback/core/providers/voximplant'
import { expect, test } from 'vitest'
import { findSender } from './find-sender.ts'
import { makeRequests } from './make-requests.ts'
import type { MakeOptions } from './make-requests.ts'
import type { CallbackKind, PlannedRequest } from './plan-requests.ts'
import { checkSecret, provesEach, refusesStale } from './probe-signing.ts'
import type { RequestToSend } from './send-requests.ts'
import { publicUrlOf } from './sign-requests.ts'

const NOW = new Date('2026-01-01T00:00:00Z')
const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const PUBLIC_KEY = `whpk_${Buffer.alloc(32, 7).toString('base64')}`

function sourceOf(definition: SourceDefinition): Source {
  return resolveConfig(
    { sources: { source: definition } },
    { TOKEN: 'hush', PUBLIC_BASE_URL: 'https://hooks.example.test' },
  ).sources.get('source')!
}

const signed = sourceOf(standardWebhooks({ secrets: SECRET }))
const signedSample = standardWebhooks.provider.schemes.signed.samples['contact.created']!
const { accountId, apiKey, salt } = demoCredentials
const batches = sourceOf(voximplant({ accounts: [{ accountId, apiKey, salts: salt }] }))
const batchSample: Sample = voximplant.provider.schemes.account.samples.min_balance!

function options(source: Source, sample: Sample, more: Partial<MakeOptions> = {}): MakeOptions {
  return {
    source,
    sample,
    url: 'http://127.0.0.1:3000/callbacks/source',
    publicBaseUrl: undefined,
    secret: undefined,
    wrongContentType: false,
    now: () => NOW,
    ...more,
  }
}

function planOf(...requests: CallbackKind[][]): PlannedRequest[] {
  let content = 0
  return requests.map((kinds) => ({
    dropped: false,
    callbacks: kinds.map((kind) => ({ kind, content: kind === 'duplicate' ? content : (content += 1) })),
  }))
}

function read(source: Source, request: ReturnType<RequestToSend['make']>) {
  const { method, path, headers, body } = request
  const url = `http://127.0.0.1:3000${path}`
  return source.read({
    method,
    url,
    body,
    header: (name) => headers[name],
    remoteAddress: undefined,
    receivedAt: NOW,
  })
}

const make = (plan: PlannedRequest[], making: MakeOptions) =>
  makeRequests(plan, making).map((request) => read(making.source, request().make()))

test('genuine, forged and stale requests are read as what they are', () => {
  expect(make(planOf(['genuine'], ['forged'], ['stale']), options(signed, signedSample))).toMatchObject([
    { kind: 'read', callbacks: [{ kind: 'genuine', type: 'contact.created' }] },
    { kind: 'refused', reason: 'signature_mismatch' },
    { kind: 'refused', reason: 'timestamp_out_of_tolerance' },
  ])
})

test('a duplicate has the id of what it repeats, and the next one has another', () => {
  const ids = make(planOf(['genuine'], ['duplicate'], ['genuine']), options(signed, signedSample)).map((reading) =>
    reading.kind === 'read' ? reading.callbacks[0]!.callbackId : undefined,
  )
  expect(ids[1]).toBe(ids[0])
  expect(ids[2]).not.toBe(ids[0])
})

test('a request that is tried again is the same request', () => {
  const [request] = makeRequests(planOf(['genuine']), options(signed, signedSample))
  const { make: attempt } = request!()
  expect(attempt()).toEqual(attempt())
})

test('where a nonce is signed and not the body, a repetition is the same request, and nothing else has its nonce', () => {
  const source = sourceOf(vobiz({ secrets: 'hush' }))
  const [sample] = Object.values(vobiz.provider.schemes.voice.samples)
  const plan = planOf(['genuine'], ['duplicate'], ['genuine'], ['forged'])
  const making = options(source, sample!, { publicBaseUrl: 'https://hooks.example.test' })
  const [first, repeated, ...others] = makeRequests(plan, making).map((request) => request().make())
  expect(repeated).toEqual(first)
  const nonces = [first!, ...others].map(({ headers }) => headers['x-vobiz-signature-v3-nonce'])
  expect(new Set(nonces).size).toBe(3)
})

test('only where a time is signed can a request be stale', () => {
  const voice = sourceOf(vobiz({ secrets: 'hush' }))
  const [sample] = Object.values(vobiz.provider.schemes.voice.samples)
  expect(refusesStale(options(voice, sample!, { publicBaseUrl: 'https://hooks.example.test' }))).toBe(false)
  expect(refusesStale(options(signed, signedSample))).toBe(true)
  expect(refusesStale(options(sourceOf(standardWebhooks({ secrets: SECRET, shadow: true })), signedSample))).toBe(true)
})

test('where each callback proves itself, forged ones are refused and those beside them are not', () => {
  const making = options(batches, batchSample)
  expect(provesEach(making)).toBe(true)
  const [reading] = make(planOf(['genuine', 'forged', 'duplicate', 'genuine']), making)
  const callbacks = reading!.kind === 'read' ? reading!.callbacks : []
  expect(callbacks.map(({ kind }) => kind)).toEqual(['genuine', 'forged', 'genuine', 'genuine'])
  expect(new Set(callbacks.map(({ callbackId }) => callbackId)).size).toBe(3)
})

test('where only the URL is the proof, a forged request has another', () => {
  const byUrl = sourceOf(voximplant({ urlTokens: env('TOKEN') }))
  const making = options(byUrl, batchSample, { url: 'http://127.0.0.1:3000/callbacks/source/hush' })
  expect(provesEach(making)).toBe(false)
  const paths = makeRequests(planOf(['genuine'], ['forged']), making).map((request) => request().make().path)
  expect(paths).toEqual(['/callbacks/source/hush', '/callbacks/source/forged'])
  const elsewhere = { ...making, url: 'http://127.0.0.1:3000/elsewhere' }
  expect(() => makeRequests(planOf(['forged']), elsewhere)[0]!()).toThrow(/leave out --forged/)
})

test('the public URL is what is signed, and what signing adds to its query is sent', () => {
  const urls: string[] = []
  const byUrl: Source = {
    ...signed,
    sign(request) {
      urls.push(request.url)
      return { ...request, url: `${request.url}&bodySHA256=ab` }
    },
  }
  const making = options(
    byUrl,
    { method: 'GET', query: { uid: 'a b' } },
    { publicBaseUrl: 'https://hooks.example.test/' },
  )
  const { path, method, body } = makeRequests(planOf(['genuine']), making)[0]!().make()
  expect(new Set(urls)).toEqual(new Set(['https://hooks.example.test/callbacks/source?uid=a+b']))
  expect({ path, method, body: body.length }).toEqual({
    path: '/callbacks/source?uid=a+b&bodySHA256=ab',
    method: 'GET',
    body: 0,
  })
})

test.each([
  ['http://127.0.0.1:3000/callbacks/a?x=1', undefined, 'http://127.0.0.1:3000/callbacks/a?x=1'],
  ['http://127.0.0.1:3000/callbacks/a?x=1', 'https://h.test/in', 'https://h.test/in/callbacks/a?x=1'],
  ['https://h.test/in/callbacks/a', 'https://h.test/in/', 'https://h.test/in/callbacks/a'],
  ['http://127.0.0.1:3000/?x=1', 'https://h.test/in', 'https://h.test/in?x=1'],
  ['https://h.test/in', 'https://h.test/in', 'https://h.test/in'],
])('%s at %s is known to the provider as %s', (url, publicBaseUrl, expected) => {
  expect(publicUrlOf(url, publicBaseUrl)).toBe(expected)
})

test('the wrong content type is that of the other kind of body', () => {
  const making = options(signed, signedSample, { wrongContentType: true })
  const { headers } = makeRequests(planOf(['genuine']), making)[0]!().make()
  expect(headers['content-type']).toBe('application/x-www-form-urlencoded')
})

test('public keys sign nothing, and the error says what does', () => {
  const verifying = sourceOf(standardWebhooks({ secrets: PUBLIC_KEY }))
  expect(() => checkSecret('hooks', options(verifying, signedSample))).toThrow(/"hooks".*--secret/)
  expect(() => checkSecret('hooks', options(signed, signedSample, { secret: PUBLIC_KEY }))).toThrow(/this --secret/)
  checkSecret('hooks', options(signed, signedSample))
  checkSecret('hooks', options(verifying, signedSample, { secret: SECRET }))
  checkSecret('hooks', options(batches, batchSample))
})

test('a secret is refused where nothing is signed: by a password or the URL alone, requests are let in whatever it is', () => {
  const byPassword = sourceOf(infobip({ basicAuth: { username: 'user', password: 'hush' } }))
  const [scheme] = Object.values<SchemeProfile>(infobip.provider.schemes)
  const [report] = Object.values(scheme!.samples)
  const byUrl = sourceOf(voximplant({ urlTokens: 'hush' }))
  for (const [source, sample] of [[byPassword, report!] as const, [byUrl, batchSample] as const]) {
    expect(() => checkSecret('hooks', options(source, sample, { secret: 'wrong' }))).toThrow(
      /"hooks" carries no signature: leave out --secret/,
    )
    checkSecret('hooks', options(source, sample))
  }
  checkSecret('hooks', options(batches, batchSample, { secret: 'wrong' }))
  checkSecret('hooks', options(signed, signedSample, { secret: 'd3Jvbmc=' }))
})

const everyScheme = providers.flatMap((provider) =>
  Object.entries(provider.schemes)
    .filter(([, profile]) => 'signature' in profile && profile.signature !== undefined)
    .map(([scheme, { samples }]) => [provider.name, scheme, Object.keys(samples)] as const),
)

test.each(everyScheme)('%s, %s: every sample is sent as genuine and as forged', (provider, scheme, events) => {
  const config = { sources: new Map<string, Source>(), sourcesOff: [] }
  const secret = Buffer.alloc(32, 7).toString('base64')
  for (const event of events) {
    const { source, sample } = findSender(provider, event, { scheme, secret }, config)
    const making = options(source, sample, { publicBaseUrl: 'https://hooks.example.test', secret })
    const [genuine, forged] = makeRequests(planOf(['genuine'], ['forged']), making).map((request) => {
      const { method, path, headers, body } = request().make()
      const url = `https://hooks.example.test${path}`
      const header = (name: string) => headers[name]
      const received = { method, url, body, header, remoteAddress: undefined, receivedAt: NOW }
      // Only the provider can sign for a public key, so no signature here can be right.
      if (source.explain(received).some(({ expected }) => expected === undefined)) return undefined
      return source.read(received)
    })
    if (genuine === undefined) continue
    expect(genuine).toMatchObject({ kind: 'read', callbacks: [{ kind: 'genuine' }] })
    expect(forged).toMatchObject({ kind: 'refused', as: 'forged' })
    if (source.envelope === undefined) continue
    const [batch] = make(planOf(['genuine', 'genuine', 'genuine']), { ...making, publicBaseUrl: undefined })
    expect(batch).toMatchObject({ kind: 'read', callbacks: Array.from({ length: 3 }, () => ({ kind: 'genuine' })) })
  }
})
