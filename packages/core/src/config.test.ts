import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { defaultAlerts } from './alerts.ts'
import { defineConfig, env, loadConfig, resolveConfig } from './config.ts'
import type { HandlerDefinition } from './config.ts'
import { code, defaultBreaker, email, forward, log } from './handlers.ts'
import { voximplant } from './providers/voximplant.ts'
import { requestOf } from '../test/support/sign-and-read.ts'

const folder = mkdtempSync(join(tmpdir(), 'ringback-config-'))
afterAll(() => rmSync(folder, { recursive: true }))

function fileWith(content: string): string {
  const file = join(folder, `${Math.random()}.ts`)
  writeFileSync(file, content)
  return file
}

const sources = { voximplant: voximplant({ urlTokens: env('TOKEN') }) }

test('the configuration of the repository is valid with nothing set, and its sources are then off', async () => {
  const config = await loadConfig(join(import.meta.dirname, '../../../ringback.config.ts'), {})
  expect(config.sourcesOff).toEqual(['voximplant', 'vobiz', 'fonestorm'])
  expect(config.handlers.map(({ name }) => name)).toEqual(['low-balance'])
})

test('the repository’s Vobiz takes what is not signed by the token in its URL, and without a token refuses it', async () => {
  const read = async (environment: Record<string, string>) => {
    const { sources } = await loadConfig(join(import.meta.dirname, '../../../ringback.config.ts'), {
      PUBLIC_BASE_URL: 'https://hooks.example.com',
      ...environment,
    })
    return sources.get('vobiz')!.read(requestOf({ body: 'Event=Hangup&CallUUID=c1' }))
  }
  const accepted = { kind: 'read', callbacks: [{ kind: 'genuine', verifiedBy: 'secret' }] }
  expect(await read({ VOBIZ_URL_TOKEN: 'token' })).toMatchObject(accepted)
  expect(await read({ VOBIZ_URL_TOKEN: 'token', VOBIZ_AUTH_TOKEN: 'secret' })).toMatchObject(accepted)
  expect(await read({ VOBIZ_AUTH_TOKEN: 'secret' })).toMatchObject({ kind: 'refused', reason: 'signature_missing' })
})

test.each([
  ['VOXIMPLANT_ACCOUNT_ID', 'VOXIMPLANT_API_KEY'],
  ['FONESTORM_USERNAME', 'FONESTORM_PASSWORD'],
  ['FONESTORM_PASSWORD', 'FONESTORM_USERNAME'],
])('of an account or a basicAuth with only %s, the problem is that %s is not set', async (given, missing) => {
  const file = join(import.meta.dirname, '../../../ringback.config.ts')
  await expect(loadConfig(file, { [given]: 'x', PUBLIC_BASE_URL: 'x' })).rejects.toMatchObject({
    problems: expect.arrayContaining([
      expect.stringMatching(/^PUBLIC_BASE_URL must begin/),
      expect.stringMatching(new RegExp(`${missing}.* is not set`)),
    ]),
  })
})

test('a value comes from its variable, or from the file that NAME_FILE names', () => {
  const tokens = (environment: Record<string, string>) =>
    resolveConfig({ sources }, environment).sources.get('voximplant')?.urlTokens
  expect(tokens({ TOKEN: 'a' })).toEqual(['a'])
  expect(tokens({ TOKEN_FILE: fileWith('a\n') })).toEqual(['a'])
  expect(() => tokens({ TOKEN_FILE: fileWith(' a\n') }), 'spaces stay').toThrow(/urlTokens: a token has characters/)
  for (const blank of ['', ' ', '\t\n']) {
    expect(tokens({ TOKEN: blank }), 'blanks alone are no value').toBeUndefined()
    expect(tokens({ TOKEN: blank, TOKEN_FILE: fileWith(blank) })).toBeUndefined()
  }
})

test('an empty secret is an error in the configuration, and a secret file that is empty is none', () => {
  const withToken = (urlTokens: string[]) => resolveConfig({ sources: { voximplant: voximplant({ urlTokens }) } }, {})
  expect(() => withToken(['a', ''])).toThrow(/sources.voximplant: an empty text is no secret/)
  const empty = fileWith('\n')
  const variables = ['TOKEN', 'PUBLIC_BASE_URL', 'CREDENTIAL_DIGEST_KEY'].map((name) => [`${name}_FILE`, empty])
  expect(resolveConfig({ sources }, Object.fromEntries(variables) as Record<string, string>)).toMatchObject({
    sourcesOff: ['voximplant'],
    origin: { publicBaseUrl: undefined },
    credentialDigest: undefined,
  })
})

test('trusted proxies are the addresses and ranges of a text with commas, and none beside them', () => {
  const trustedProxies = [env('PROXIES'), '192.0.2.1']
  const { origin } = resolveConfig({ sources, trustedProxies }, { PROXIES: '10.0.0.0/8, 2001:db8::1' })
  const trusts = (address: string) => origin.trustedProxies.has(address)
  for (const proxy of ['10.1.2.3', '2001:db8::1', '192.0.2.1']) expect(trusts(proxy), proxy).toBe(true)
  for (const other of ['11.0.0.1', '2001:db8::2', '192.0.2.2']) expect(trusts(other), other).toBe(false)
})

test.each(['example.test', 'ftp://example.test', 'https://example.test/?a=b'])(
  'PUBLIC_BASE_URL cannot be %s',
  (PUBLIC_BASE_URL) => {
    expect(() => resolveConfig({ sources }, { PUBLIC_BASE_URL })).toThrow('PUBLIC_BASE_URL must begin with')
  },
)

test.each(['/callbacks/voximplant', '/callbacks/voximplant/', '/in/callbacks/voximplant/hush'])(
  'a base URL that goes on with %s, as a whole callback URL does, is told where to end',
  (path) => {
    const PUBLIC_BASE_URL = `https://example.test${path}`
    expect(() => resolveConfig({ sources }, { PUBLIC_BASE_URL })).toThrow(
      /PUBLIC_BASE_URL must end before \/callbacks\/voximplant, which Ringback adds$/,
    )
    const ofSource = { voximplant: voximplant({ publicBaseUrl: PUBLIC_BASE_URL, urlTokens: 'hush' }) }
    expect(() => resolveConfig({ sources: ofSource }, {})).toThrow(
      /sources\.voximplant: publicBaseUrl must end before \/callbacks\/voximplant, which Ringback adds$/,
    )
  },
)

test('what runs elsewhere has a breaker, unless it is off or another is given; what runs here has what is given', () => {
  const limitsOf = (...handlers: HandlerDefinition[]) =>
    resolveConfig({ sources, handlers }, {}).handlers.map(({ limits }) => limits)
  const run = forward({ url: 'https://example.test' })
  const breaker = { ...defaultBreaker, openMs: 1000 }
  expect(
    limitsOf(
      { name: 'a', run },
      { name: 'b', run, limits: { concurrency: 3, breaker: false } },
      { name: 'c', run, limits: { breaker } },
      { name: 'd', run: code(() => {}) },
      { name: 'e', run: code(() => {}), limits: { concurrency: 3 } },
      { name: 'f', run, limits: { concurrency: 3 } },
    ),
  ).toEqual([
    { breaker: defaultBreaker },
    { concurrency: 3, breaker: false },
    { breaker },
    undefined,
    { concurrency: 3 },
    { concurrency: 3, breaker: defaultBreaker },
  ])
})

test.each([
  [{ limits: { perMinute: 5 } }, /handlers\.0\.limits: Unrecognized key: "perMinute"/],
  [{ limits: { concurrency: 0 } }, /handlers\.0\.limits\.concurrency: /],
  [{ limits: { perSecond: 0 } }, /handlers\.0\.limits\.perSecond: /],
  [{ limits: { breaker: { failureShare: 50 } } }, /handlers\.0\.limits\.breaker/],
  [{ retry: { maxAttempts: 0 } }, /handlers\.0\.retry\.maxAttempts: /],
  [{ retry: { maxAgeMs: 24 } }, /handlers\.0\.retry\.maxAgeMs: /],
])('limits and retries that could not do what they say are refused: %j', (options, message) => {
  const handler = { name: 'h', run: log({ message: 'm' }), ...options }
  expect(() => resolveConfig({ sources, handlers: [handler] }, {})).toThrow(message)
})

test('a secret file that cannot be read is an error, not an unset value', () => {
  expect(() => resolveConfig({ sources }, { TOKEN_FILE: join(folder, 'missing') })).toThrow(
    /TOKEN_FILE names a file that cannot be read \(ENOENT\)/,
  )
})

describe('all problems are reported together', () => {
  test('in the configuration', () => {
    const broken = {
      sources: { 'Not A Slug': sources.voximplant },
      handlers: [
        { name: 'x', on: { tpye: 'a' }, run: log({ message: 'm' }) },
        { name: 'y', run: 5 },
      ],
    }
    expect(() => resolveConfig(broken, {})).toThrow(/Not A Slug[^]*tpye[^]*handlers\.1\.run/)
  })

  test('what is wrong in form hides nothing that is wrong with the rest', () => {
    const broken = {
      sources: { 'Not A Slug': sources.voximplant, ringback: sources.voximplant, voximplant: 5 },
      handlers: [
        { name: 'x', on: { source: 'voximplant', tpye: 'a' }, run: log({ message: 'm' }) },
        { name: 'y', on: { source: 'voximplant' }, run: code(undefined as never) },
      ],
      trustedProxies: ['10.0.0.1/99'],
      alert: {},
      alerts: undefined,
    }
    const problems =
      /Not A Slug[^]*sources\.voximplant[^]*tpye[^]*"alert"[^]*trustedProxies[^]*sources\.ringback[^]*handlers\.y: code/
    expect(() => resolveConfig(broken, {})).toThrow(problems)
    expect(() => resolveConfig(broken, {})).not.toThrow(/is no source/)
  })
})

describe('what a handler acts on', () => {
  const on = (filter: object) =>
    resolveConfig({ sources, handlers: [{ name: 'h', on: filter, run: log({ message: 'm' }) }] }, {})

  test('may be said by proof, by fields and by a function', () => {
    const filter = {
      verifiedBy: { atLeast: 'id' },
      fields: { 'a.b': 'x', c: [1, '2', null], d: { exists: true, not: ['x'] }, e: { gte: 1, lt: 5 } },
      when: () => true,
    }
    expect(on(filter).handlers[0]!.on).toEqual(filter)
  })

  test.each([
    [{ verifiedBy: 'strong' }, /on\.verifiedBy: must be one of body, url/],
    [{ verifiedBy: { atLeast: 'most' } }, /on\.verifiedBy: must be one of/],
    [{ fields: { a: {} } }, /on\.fields\.a: must have one of exists, not/],
    [{ fields: { a: undefined } }, /on\.fields\.a: must be a value, a list of values, or/],
    [{ fields: { a: { matches: '^x' } } }, /on\.fields\.a: .*matches[^]*must have one of .*startsWith/],
    [{ fields: { a: { startsWith: '' } } }, /on\.fields\.a\.startsWith: /],
    [{ fields: { a: 2 ** 53 } }, /on\.fields\.a: an integer beyond 2\^53 must be a text/],
    [{ fields: { 'a..b': 1 } }, /on\.fields\.a\.\.b: is no path: names with dots/],
    [{ source: [] }, /on\.source: must not be an empty list/],
    [{ type: [] }, /on\.type: must not be an empty list/],
    [{ account: [] }, /on\.account: must not be an empty list/],
    [{ verifiedBy: [] }, /on\.verifiedBy: must not be an empty list/],
    [{ fields: { a: [] } }, /on\.fields\.a: must not be an empty list/],
    [{ fields: { a: { not: [] } } }, /on\.fields\.a\.not: must not be an empty list/],
    [{ source: ['*', 'voximplnt'] }, /handlers\.h: on\.source: "voximplnt" is no source; there are voximplant, rin/],
    [{ source: 'ring*' }, /on\.source: "ring\*" is no source/],
    [{ when: 'true' }, /on\.when: must be a function/],
    [{ when: async () => true }, /on\.when: must be a function that is not async/],
  ])('%j is refused with what to do', (filter, message) => {
    expect(() => on(filter)).toThrow(message)
  })
})

test('a handler may act on a source that is off, on sources by a pattern, and on what Ringback itself has to say', () => {
  for (const source of ['voximplant', 'vox*', ['*', 'ringback']]) {
    expect(() =>
      resolveConfig({ sources, handlers: [{ name: 'h', on: { source }, run: log({ message: 'm' }) }] }, {}),
    ).not.toThrow()
  }
})

test('what came by no request cannot be forwarded as it was received', () => {
  const forwarding = (on: object, as: 'received' | 'json') => () =>
    resolveConfig({ sources, handlers: [{ name: 'h', on, run: forward({ url: 'https://example.test', as }) }] }, {})
  const refusal = /handlers\.h: as: 'received' .*alerts came by none: choose another/
  expect(forwarding({ source: ['*', 'ringback'] }, 'received')).toThrow(refusal)
  expect(forwarding({ source: 'ringback', type: 'alert.r*' }, 'received')).toThrow(refusal)
  expect(forwarding({ source: 'ringback' }, 'json')).not.toThrow()
  for (const on of [{}, { source: '*' }, { source: ['*', 'ringback'], type: 'sms_*' }]) {
    expect(forwarding(on, 'received')).not.toThrow()
  }
})

test('what is an alert has defaults, and what is given instead is checked', () => {
  const alertsOf = (alerts: unknown) => resolveConfig({ sources, alerts }, {}).alerts
  expect(alertsOf(undefined)).toEqual(defaultAlerts)
  expect(alertsOf({ quietMinutes: 5 })).toEqual({ ...defaultAlerts, quietMinutes: 5 })
  for (const wrong of [{ consecutiveFailures: 0 }, { quietMinuts: 5 }, { disabled: ['everything'] }]) {
    expect(() => alertsOf(wrong)).toThrow(/alerts/)
  }
})

test("no source takes the name of Ringback's own", () => {
  expect(() => resolveConfig({ sources: { ringback: sources.voximplant } }, {})).toThrow(/sources\.ringback: .*another/)
})

test('two handlers of one name are an error, for a delivery belongs to its handler by name', () => {
  const handler = { name: 'twice', run: code(() => {}) }
  expect(() => resolveConfig(defineConfig({ sources, handlers: [handler, handler] }), {})).toThrow(
    /two are named "twice"/,
  )
})

test.each([
  [code(() => {}, { timeoutMs: Number.POSITIVE_INFINITY }), /timeoutMs: /],
  [code(() => {}, { timeoutMs: 30 * 86_400_000 }), /timeoutMs: /],
  [code(() => {}, { timeout: 1000 } as object), /Unrecognized key: "timeout"/],
  [code(undefined as never), /code takes a function/],
  [log({ message: 'm', level: 'warning' as 'warn' }), /level: /],
  [log({} as { message: string }), /message: /],
])('an action that could not run is refused when it is loaded: %#', (run, message) => {
  expect(() => resolveConfig({ sources, handlers: [{ name: 'h', run }] }, {})).toThrow(message)
})

test.each([{ delaysMs: [30 * 86_400_000] }, { firstDelayMs: 1e10 }, { maxDelayMs: 1e10 }])(
  'a wait that Postgres could not be told is refused: %j',
  (retry) => {
    const handlers = [{ name: 'h', run: log({ message: 'm' }), retry }]
    expect(() => resolveConfig({ sources, handlers }, {})).toThrow(/retry\./)
  },
)

test('a file that is not there, throws or is no TypeScript says which it is, where and what to do', async () => {
  const missing = loadConfig(join(folder, 'missing.ts'), {})
  await expect(missing).rejects.toThrow(/There is no file .*missing\.ts; set RINGBACK_CONFIG to yours/)
  const throws = loadConfig(fileWith('const none = undefined\nexport default {\n  sources: none.x,\n}\n'), {})
  await expect(throws).rejects.toThrow(/The configuration .*\.ts:3:\d+ cannot be loaded/)
  const noTypeScript = loadConfig(fileWith('export default {\n  sources: {\n'), {})
  await expect(noTypeScript).rejects.toThrow(/The configuration .*\.ts(:\d+)* cannot be loaded/)
})

test('a name is told what it may be, and why', () => {
  const named = (source: string, handler: string) => () =>
    resolveConfig({ sources: { [source]: sources.voximplant }, handlers: [{ name: handler, run: code(() => {}) }] }, {})
  expect(named('A b', 'h')).toThrow(
    /sources\.A b: must be lower-case letters, digits, "-" and "_", for it is part of a URL/,
  )
  expect(named('s', 'A b')).toThrow(/handlers\.0\.name: must be lower-case .*, for deliveries and commands name it/)
})

test('ingest, which runs no handler, needs none of the values of handlers', () => {
  const definition = {
    sources: {},
    handlers: [
      { name: 'mail', run: email({ smtpUrl: env('SMTP_URL'), from: 'a@example.test', to: 'b@example.test' }) },
    ],
  }
  expect(() => resolveConfig(definition, {})).toThrow(/handlers\.mail: .*SMTP_URL/)
  expect(resolveConfig(definition, {}, { withHandlers: false }).handlers).toEqual([])
})
