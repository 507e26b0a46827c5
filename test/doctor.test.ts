import { generateKeyPairSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { loadConfig } from '@ringback/core/config'
import type { Config } from '@ringback/core/config'
import type { OutgoingRequest } from '@ringback/core/providers/provider'
import { fillSample } from '@ringback/core/providers/sample'
import { standardWebhooks } from '@ringback/core/providers/standard-webhooks'
import { vobiz } from '@ringback/core/providers/vobiz'
import { httpProxy } from './support/http-proxy.ts'
import type { HttpProxy, ProxyBehaviour } from './support/http-proxy.ts'
import { configFile, runCli } from './support/processes.ts'
import { eventually, freshDatabase, startIngest, startWorker } from './support/ringback.ts'
import type { Database } from './support/ringback.ts'

const { publicKey, privateKey } = generateKeyPairSync('ed25519')
const PUBLIC_KEY = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32).toString('base64')
const PRIVATE_KEY = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32).toString('base64')

const TOKEN = 'a-secret-token'
const SECRET = Buffer.from('a secret of 16..').toString('base64')

const SOURCES = `
  import { defineConfig, env } from '@ringback/core/config'
  import { standardWebhooks } from '@ringback/core/providers/standard-webhooks'
  import { telnyx } from '@ringback/core/providers/telnyx'
  import { twilio } from '@ringback/core/providers/twilio'
  import { vobiz } from '@ringback/core/providers/vobiz'
  export default defineConfig({ sources: {
    hooks: standardWebhooks({ secrets: env('SECRET'), urlTokens: '${TOKEN}' }),
    watched: standardWebhooks({ secrets: env('SECRET'), addresses: ['192.0.2.1'] }),
    shadow: standardWebhooks({ secrets: env('SECRET'), shadow: true }),
    twilio: twilio({ secrets: env('SECRET') }),
    kyc: vobiz({ scheme: 'kyc', secrets: env('SECRET') }),
    telnyx: telnyx({ secrets: '${PUBLIC_KEY}' }),
  } })`

interface Ringback extends AsyncDisposable {
  database: Database
  proxy: HttpProxy
  /** What it runs with. */
  config: Config
  /** What the doctor runs with. */
  doctorsConfig: Config
  /** Runs the doctor with the same configuration, and what `environment` says otherwise. */
  doctor: (source: string, options?: string[], environment?: Record<string, string>) => Promise<Seen>
}

interface Seen {
  code: number | NodeJS.Signals
  output: string
}

/** A running Ringback behind a proxy. */
async function ringbackBehind(
  behaviour?: ProxyBehaviour,
  { environment = {}, withWorker = true }: { environment?: Record<string, string>; withWorker?: boolean } = {},
): Promise<Ringback> {
  await using stack = new AsyncDisposableStack()
  const database = stack.use(await freshDatabase())
  const file = stack.use(await configFile(SOURCES))
  const proxy = stack.use(await httpProxy(behaviour))
  const variables = { SECRET, CREDENTIAL_DIGEST_KEY: 'key', PUBLIC_BASE_URL: proxy.url }
  const config = await loadConfig(file.path, { ...variables, ...environment })
  const doctorsConfig = await loadConfig(file.path, variables)
  proxy.passTo(stack.use(await startIngest(database, { config })))
  if (withWorker) stack.use(await startWorker(database, { config }))
  const resources = stack.move()
  return {
    database,
    proxy,
    config,
    doctorsConfig,
    async doctor(source, options = [], others = {}) {
      const env = { DATABASE_URL: database.url, RINGBACK_CONFIG: file.path, ...variables, ...others }
      const seen = await runCli(env, 'doctor', source, ...options)
      for (const secret of [SECRET, TOKEN, PRIVATE_KEY]) expect(seen.output).not.toContain(secret)
      return seen
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

/** Sends what the provider signed for `signed.url` through the proxy, and waits until it is in quarantine. */
async function refuse({ database, proxy }: Ringback, { method, url, headers, body }: OutgoingRequest): Promise<void> {
  const { pathname } = new URL(url)
  const { status } = await fetch(proxy.url + pathname, { method, headers, body: new Uint8Array(body) })
  expect(status).toBe(401)
  await eventually(async () => expect(await database.sql`select from quarantine`).toHaveLength(1))
}

/** An SMS status that Twilio sends to a URL that begins with `baseUrl`. */
function smsTo(baseUrl: string, config: Config): OutgoingRequest {
  const request = {
    method: 'POST' as const,
    url: `${baseUrl}/callbacks/twilio`,
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: Buffer.from('SmsSid=SM1&SmsStatus=delivered'),
  }
  return config.sources.get('twilio')!.sign(request, { at: new Date() })
}

test('all is well', async () => {
  await using ringback = await ringbackBehind()
  const { code, output } = await ringback.doctor('hooks')
  expect(output).toMatch(/^note .*\/callbacks\/hooks\/\*\*\* is on this machine/m)
  expect(output).toMatch(/^ok .*answers, and it is Ringback$/m)
  expect(output).toMatch(/^ok .*genuine sample was answered 200 in \d+ ms$/m)
  expect(output).toMatch(/^ok .*stored \d+ ms after it came, as event \S+, verified by "body", with secret 1$/m)
  expect(code).toBe(0)
  const whole = await ringback.doctor('hooks', ['--url', `${ringback.proxy.url}/callbacks/hooks/${TOKEN}`])
  expect(whole).toEqual({ code: 0, output: expect.stringMatching(/^ok .*answers, and it is Ringback$/m) })
})

test('nothing listens', async () => {
  await using ringback = await ringbackBehind()
  await ringback.proxy[Symbol.asyncDispose]()
  const { code, output } = await ringback.doctor('hooks')
  expect(output).toMatch(/^problem .*\/\*\*\* cannot be reached: nothing listens there.*ECONNREFUSED/m)
  expect(code).toBe(1)
  const elsewhere = await ringback.doctor('hooks', ['--url', 'http://127.0.0.1:1/there'])
  expect(elsewhere.output).toMatch(
    /^problem .*http:\/\/127\.0\.0\.1:1\/there\/callbacks\/hooks\/\*\*\* cannot be reached/m,
  )
})

test('a proxy writes JSON bodies anew', async () => {
  await using ringback = await ringbackBehind((request) => {
    if (request.body.length === 0) return request
    return { ...request, body: Buffer.from(JSON.stringify(JSON.parse(String(request.body)), undefined, 1)) }
  })
  const { code, output } = await ringback.doctor('hooks')
  expect(output).toMatch(/^problem .*answered 401.*Ringback refused it$/m)
  expect(output).toMatch(/^problem .*body that arrived is not the one that was sent.*pass the bytes on/m)
  expect(output).not.toContain('The signature fits none')
  expect(code).toBe(1)
})

test('a proxy writes a form anew, of which the provider signs the fields', async () => {
  await using ringback = await ringbackBehind((request) => {
    const body = String(request.body).replace(/^\w/, (letter) => `%${letter.charCodeAt(0).toString(16)}`)
    return { ...request, body: Buffer.from(body) }
  })
  const { code, output } = await ringback.doctor('twilio')
  expect(output).toMatch(/^note .*Its body was written anew on the way, with the same content: the proof covers that/m)
  expect(code).toBe(0)
})

test('a proxy drops the header with the signature', async () => {
  await using ringback = await ringbackBehind(({ headers, ...request }) => {
    const { 'webhook-signature': _dropped, ...others } = headers
    return { ...request, headers: others }
  })
  const { code, output } = await ringback.doctor('hooks')
  expect(output).toMatch(/^problem .*These headers did not arrive: webhook-signature\. Does a proxy drop them/m)
  expect(code).toBe(1)
})

test('a proxy rewrites the path, or has another host behind it', async () => {
  await using rewriting = await ringbackBehind((request) => ({
    ...request,
    target: request.target.replace('/callbacks', ''),
  }))
  const { code, output } = await rewriting.doctor('hooks')
  expect(output).toMatch(/^problem .*answers 404: Ringback is there, but was asked for another path/m)
  expect(code).toBe(1)
  await using elsewhere = await ringbackBehind(() => ({ status: 404 }))
  expect(await elsewhere.doctor('hooks')).toMatchObject({
    code: 1,
    output: expect.stringMatching(/^problem .*answers 404: this is not Ringback/m),
  })
})

test('a redirect to another scheme, by a server whose clock is wrong', async () => {
  await using ringback = await ringbackBehind(({ target }) => ({
    status: 301,
    headers: {
      location: `https://hooks.example.test${target}`,
      date: new Date(Date.now() - 3_600_000).toUTCString(),
    },
  }))
  const { code, output } = await ringback.doctor('hooks')
  expect(output).toMatch(
    /^problem .*answers 301: it redirects to https:\/\/hooks\.example\.test\/callbacks\/hooks\/\*\*\*, and no provider follows/m,
  )
  expect(output).toMatch(/^problem .*The clock there is 36\d\d s behind this one/m)
  expect(code).toBe(1)
})

test('the provider calls by another scheme than the one that is configured', async () => {
  await using ringback = await ringbackBehind()
  const [sample] = Object.values(vobiz.provider.schemes.whatsapp.samples)
  const whatsapp = ringback.config.sources
    .get('kyc')!
    .alternatives()
    .find(({ scheme }) => scheme === 'whatsapp')!
  const url = `${ringback.proxy.url}/callbacks/kyc`
  await refuse(ringback, whatsapp.sign({ ...fillSample(sample!, new Date()), url }, { at: new Date() }))
  const { code, output } = await ringback.doctor('kyc')
  expect(output).toMatch(/^ok .*It was stored/m)
  expect(output).toMatch(/^problem .*Refused before, 1 of the newest 1, .*It fits the scheme "whatsapp"/m)
  expect(code).toBe(1)
})

test('the provider calls another URL than PUBLIC_BASE_URL says', async () => {
  await using ringback = await ringbackBehind()
  const { host } = new URL(ringback.proxy.url)
  await refuse(ringback, smsTo(`https://${host}`, ringback.config))
  const { code, output } = await ringback.doctor('twilio')
  expect(output).toMatch(/^ok .*It was stored/m)
  expect(output).toContain(`It was signed for https://${host}/callbacks/twilio, while Ringback takes itself`)
  expect(output).toContain(`called by ${ringback.proxy.url}/callbacks/twilio: set PUBLIC_BASE_URL`)
  expect(code).toBe(1)
})

test('the provider calls a host that only the proxy knows', async () => {
  await using ringback = await ringbackBehind((request) => ({
    ...request,
    headers: { ...request.headers, 'x-forwarded-host': 'hooks.example.test', 'x-forwarded-proto': 'https' },
  }))
  await refuse(ringback, smsTo('https://hooks.example.test', ringback.config))
  const { output } = await ringback.doctor('twilio')
  expect(output).toMatch(/^problem .*signed for https:\/\/hooks\.example\.test\/callbacks\/twilio, while/m)
})

test('Ringback runs with another PUBLIC_BASE_URL or another secret than this command has', async () => {
  await using ringback = await ringbackBehind(undefined, {
    environment: { PUBLIC_BASE_URL: 'https://old.example.test', SECRET: Buffer.from('another').toString('base64') },
  })
  for (const source of ['twilio', 'hooks']) {
    const { code, output } = await ringback.doctor(source)
    expect(output).toMatch(/^problem .*passes with the configuration that this command reads.*Restart it/m)
    expect(code).toBe(1)
  }
  // Its own samples are no refusals to explain; what the provider sent meanwhile is there to be let in.
  expect((await ringback.doctor('twilio')).output).not.toContain('Refused before')
  await ringback.database.sql`delete from quarantine`
  await refuse(ringback, smsTo(ringback.proxy.url, ringback.doctorsConfig))
  expect((await ringback.doctor('twilio')).output).toMatch(
    /^problem .*1 of the newest 1: what would pass now\. Let it in with "ringback quarantine release --source twilio --yes"$/m,
  )
})

test('what nothing would have let in is a problem until something genuine has come, and no matter once it is released', async () => {
  await using ringback = await ringbackBehind()
  const { proxy, config, database } = ringback
  const [sample] = Object.values(standardWebhooks.provider.schemes.signed.samples)
  const url = `${proxy.url}/callbacks/hooks/${TOKEN}`
  const request = config.sources.get('hooks')!.sign({ ...fillSample(sample!, new Date()), url }, { at: new Date() })
  await refuse(ringback, { ...request, headers: { ...request.headers, 'webhook-signature': 'v1,forged' } })
  expect(await ringback.doctor('hooks')).toMatchObject({
    code: 1,
    output: expect.stringMatching(/^problem .*Refused before, 1 of the newest 1, such as/m),
  })
  expect((await ringback.doctor('twilio')).output).not.toContain('Refused before')

  const { method, headers, body } = request
  expect((await fetch(url, { method, headers, body: new Uint8Array(body) })).status).toBe(200)
  await eventually(async () => expect(await database.sql`select from events`).toHaveLength(3))
  expect(await ringback.doctor('hooks')).toMatchObject({
    code: 0,
    output: expect.stringMatching(/^note .*Refused before, 1 of the newest 1, such as/m),
  })
  await database.sql`update quarantine set released_at = now(), released_as = 'trusted'`
  expect((await ringback.doctor('hooks')).output).not.toContain('Refused before')
})

test('something answers the sample in Ringback’s place, or passes it on as a GET', async () => {
  let behaviour: ProxyBehaviour = (request) => request
  await using ringback = await ringbackBehind((request) => (request.method === 'POST' ? behaviour(request) : request))
  const doctor = async () => (await ringback.doctor('hooks', ['--wait', '1'])).output

  behaviour = () => ({ status: 200 })
  const swallowed = await doctor()
  expect(swallowed).toMatch(/^problem .*answered 200 in \d+ ms, but not by Ringback/m)
  expect(swallowed).not.toContain('acknowledged')

  behaviour = (request) => ({ ...request, method: 'GET' })
  const turned = await doctor()
  expect(turned).toMatch(/^problem .*but as a GET of a control panel: something before Ringback turns the POST/m)
  expect(turned).not.toContain('acknowledged')
})

test('no worker runs', async () => {
  await using ringback = await ringbackBehind(undefined, { withWorker: false })
  const { code, output } = await ringback.doctor('hooks', ['--wait', '1'])
  expect(output).toMatch(/^problem .*acknowledged and is not stored within 1 s, and no worker is connected/m)
  expect(code).toBe(1)
})

test('the database lacks a migration, for which the workers wait', async () => {
  await using ringback = await ringbackBehind(undefined, { withWorker: false })
  await ringback.database.sql`delete from ringback_migrations where name = '0017_changes_of_forms.sql'`
  const { code, output } = await ringback.doctor('hooks')
  expect(output).toMatch(
    /^ok .*answered 200[^]*^problem .*lacks the migration 0017_changes_of_forms\.sql: run "ringback migrate"/m,
  )
  expect(output).not.toContain('acknowledged and is not stored')
  expect(code).toBe(1)
})

test('it is acknowledged, and stored in another database', async () => {
  await using ringback = await ringbackBehind()
  await using other = await freshDatabase()
  const { code, output } = await ringback.doctor('hooks', ['--wait', '1'], { DATABASE_URL: other.url })
  expect(output).toMatch(/^problem .*no worker is connected to this database: start one, or set DATABASE_URL here/m)
  expect(code).toBe(1)
  const unreachable = await ringback.doctor('hooks', [], { DATABASE_URL: 'postgres://a:hush@127.0.0.1:1/x' })
  expect(unreachable.output).toMatch(/^ok .*answered 200[^]*^problem .*Postgres does not answer at 127\.0\.0\.1:1/m)
  expect(unreachable.output).not.toContain('hush')
})

test('what only the provider can sign is looked at for how it arrives; a key of one’s own signs', async () => {
  await using ringback = await ringbackBehind()
  const unsigned = await ringback.doctor('telnyx')
  expect(unsigned.output).toMatch(/^note .*Only the provider can sign[^]*^ok .*401[^]*^ok .*It arrived unchanged/m)
  expect(unsigned.code).toBe(0)
  const signed = await ringback.doctor('telnyx', ['--secret', PRIVATE_KEY, '--json'])
  expect(JSON.parse(signed.output)).toMatchObject({ source: 'telnyx', ok: true })
  expect(signed.output).toMatch(/It was stored/)
  const whole = privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64')
  const unusable = await ringback.doctor('telnyx', ['--secret', whole])
  expect(unusable.output).toMatch(
    /^problem .*Nothing can be signed with this --secret: an Ed25519 private key is base64 of 32/m,
  )
  expect(unusable.output).not.toContain(whole)
})

test('an address that may not send is a note; what only shadow mode lets in is a problem', async () => {
  await using ringback = await ringbackBehind((request) => {
    const { 'webhook-signature': _dropped, ...headers } = request.headers
    return request.target.includes('shadow') ? { ...request, headers } : request
  })
  const watched = await ringback.doctor('watched')
  expect(watched.output).toMatch(/^note .*It came from 127\.0\.0\.1, which is not among the addresses/m)
  const shadow = await ringback.doctor('shadow')
  expect(shadow.output).toMatch(/^note .*shadow mode[^]*^problem .*Only shadow mode let it in.*carries no signature/m)
  expect(shadow.code).toBe(1)
})
