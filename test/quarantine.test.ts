import { hash } from 'node:crypto'
import { expect, test } from 'vitest'
import { release } from '@ringback/cli/release'
import type { Released } from '@ringback/cli/release'
import { code } from '@ringback/core/handlers'
import { demoCredentials, voximplant } from '@ringback/core/providers/voximplant'
import { standardWebhooks } from '@ringback/core/providers/standard-webhooks'
import { vobiz } from '@ringback/core/providers/vobiz'
import { loadConfig, resolveConfig } from '@ringback/core/config'
import type { Config } from '@ringback/core/config'
import { quarantine } from '@ringback/core/store/schema'
import { drizzle } from 'drizzle-orm/postgres-js'
import {
  aCallback,
  eventually,
  freshDatabase,
  idAt,
  post,
  postCallbacks,
  startIngest,
  startWorker,
} from './support/ringback.ts'
import type { Database } from './support/ringback.ts'
import { configFile, configFileWith, runCli } from './support/processes.ts'

const { accountId, apiKey, salt } = demoCredentials
const sha256 = (text: string) => hash('sha256', text)

/** Two sources whose secrets depend on the environment, as an operator would correct them. */
function configOf(environment: Record<string, string>, handled: string[] = []): Config {
  return resolveConfig(
    {
      sources: {
        voximplant: voximplant({ accounts: [{ accountId, apiKey, salts: [environment.SALT ?? salt] }] }),
        signed: standardWebhooks({
          secrets: environment.SECRET ?? 'whsec_Y29ycmVjdA==',
          basicAuth: { username: 'ringback', password: environment.PASSWORD ?? 'pass:word' },
        }),
      },
      handlers: [{ name: 'note', run: code(async (event) => void handled.push(event.callbackId)) }],
    },
    { CREDENTIAL_DIGEST_KEY: 'a key', ...environment },
  )
}

async function releaseEverything(
  { sql }: Database,
  config: Config,
  options: { trust?: boolean; dryRun?: boolean } = {},
): Promise<Released[]> {
  const rows = await drizzle(sql).select().from(quarantine).orderBy(quarantine.id)
  const outcomes: Released[] = []
  for (const row of rows) outcomes.push(await release(sql, row, config, { trust: false, dryRun: false, ...options }))
  return outcomes
}

const quarantined = (database: Database, count: number) =>
  eventually(async () => expect(await database.sql`select from quarantine`).toHaveLength(count))

/** Puts genuine callbacks into quarantine, by a wrong secret of ours. */
async function refuse(database: Database, ...callbacks: unknown[]): Promise<void> {
  await using ingest = await startIngest(database, { config: configOf({ SALT: 'wrong' }) })
  await using _worker = await startWorker(database, { config: configOf({}) })
  await postCallbacks(ingest, ...callbacks)
  await quarantined(database, callbacks.length)
}

test('what a wrong secret of ours refused is let in once the secret is right, and is handled once', async () => {
  await using database = await freshDatabase()
  const handled: string[] = []
  await using ingest = await startIngest(database, { config: configOf({ SALT: 'wrong' }) })
  await using _worker = await startWorker(database, { config: configOf({}, handled) })
  expect((await postCallbacks(ingest, aCallback(1), aCallback(2))).status).toBe(401)
  expect((await postCallbacks(ingest, { ...aCallback(3), hash: '0'.repeat(32) })).status).toBe(401)
  await quarantined(database, 3)

  expect(await releaseEverything(database, configOf({ SALT: 'wrong' }))).toMatchObject([
    { kind: 'refused', reason: 'hash_mismatch' },
    { kind: 'refused' },
    { kind: 'refused' },
  ])
  expect(await releaseEverything(database, configOf({}), { dryRun: true })).toMatchObject([
    { kind: 'released' },
    { kind: 'released' },
    { kind: 'refused' },
  ])
  expect(await database.sql`select from events`).toHaveLength(0)
  expect(await releaseEverything(database, configOf({}))).toEqual([
    { kind: 'released', as: 'verified', stored: 1, duplicates: 0 },
    { kind: 'released', as: 'verified', stored: 1, duplicates: 0 },
    { kind: 'refused', reason: 'hash_mismatch' },
  ])
  for (const dryRun of [true, false]) {
    expect(await releaseEverything(database, configOf({}), { dryRun })).toMatchObject([
      { kind: 'released_before' },
      { kind: 'released_before' },
      { kind: 'refused' },
    ])
  }
  await eventually(async () => expect(handled.toSorted()).toEqual(['1', '2']))
  expect(await database.sql`select callback_id, verified_by, duplicates from events order by callback_id`).toEqual([
    { callback_id: '1', verified_by: 'id', duplicates: 0 },
    { callback_id: '2', verified_by: 'id', duplicates: 0 },
  ])
})

test('what the first version refused, which did not say what of a request it kept, is let in too', async () => {
  await using database = await freshDatabase()
  await refuse(database, aCallback(1))
  await database.sql`update quarantine set scope = null`

  expect(await releaseEverything(database, configOf({}))).toMatchObject([{ kind: 'released', as: 'verified' }])
})

test('a signature and a password are verified again as of the time of receipt, though the password was not kept', async () => {
  await using database = await freshDatabase()
  const config = configOf({})
  await using ingest = await startIngest(database, { config: configOf({ PASSWORD: 'wrong' }) })
  await using _worker = await startWorker(database, { config })
  const body = Buffer.from('{"type":"t"}')
  const request = { method: 'POST' as const, url: '', headers: { 'webhook-id': 'msg_1' }, body }
  const anHourAgo = new Date(Date.now() - 3_600_000)
  const { headers } = config.sources.get('signed')!.sign(request, { at: anHourAgo })
  const url = `http://127.0.0.1:${ingest.port}/callbacks/signed`
  const refused = await fetch(url, { method: 'POST', headers, body })
  expect(refused.status).toBe(401)
  expect(refused.headers.get('www-authenticate')).toMatch(/^Basic /)
  await quarantined(database, 1)
  const [row] = await database.sql<{ headers: Record<string, string> }[]>`select headers from quarantine`
  expect(row!.headers.authorization).toMatch(/^digest:[0-9a-f]{64}$/)

  // As if an hour had passed since.
  await database.sql`select ensure_partitions(${anHourAgo}, ${anHourAgo})`
  await database.sql`update quarantine set id = ${idAt(anHourAgo.toISOString())}, received_at = ${anHourAgo}`
  expect(await releaseEverything(database, configOf({ CREDENTIAL_DIGEST_KEY: 'another key' }))).toMatchObject([
    { kind: 'refused', reason: 'credentials_mismatch' },
  ])
  expect(await releaseEverything(database, config)).toMatchObject([{ kind: 'released', as: 'verified', stored: 1 }])
  expect(await database.sql`select callback_id, verified_by, secret from events`).toEqual([
    { callback_id: 'msg_1', verified_by: 'body', secret: 1 },
  ])
})

test('a signed URL is known again in release, however its secret token stood in it', async () => {
  await using database = await freshDatabase()
  const token = 'a:token@1'
  const configWithSecret = (secret: string) =>
    resolveConfig(
      { sources: { voice: vobiz({ secrets: secret, urlTokens: token }) } },
      { PUBLIC_BASE_URL: 'https://hooks.example.test' },
    )
  const config = configWithSecret('right')
  await using ingest = await startIngest(database, { config: configWithSecret('wrong') })
  await using _worker = await startWorker(database, { config })
  const ends = ['', '/', '?a=/***', '/?a=1']
  for (const [index, end] of ends.entries()) {
    const target = `/callbacks/voice/${token}${end}`
    const { headers, body } = config.sources.get('voice')!.sign(
      {
        method: 'POST',
        url: `https://hooks.example.test${target}`,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: Buffer.from(`Event=Hangup&CallUUID=c${index}`),
      },
      { at: new Date() },
    )
    const sent = await fetch(`http://127.0.0.1:${ingest.port}${target}`, {
      method: 'POST',
      headers,
      body: new Uint8Array(body),
    })
    expect(sent.status).toBe(401)
  }
  await quarantined(database, ends.length)
  expect(JSON.stringify(await database.sql`select url, headers from quarantine`)).not.toContain(token)
  expect(await releaseEverything(database, config)).toMatchObject(
    ends.map(() => ({ kind: 'released', as: 'verified' })),
  )
})

test('a digest that a sender writes by itself is no credential', async () => {
  await using database = await freshDatabase()
  const config = configOf({})
  await using ingest = await startIngest(database, { config })
  const credential = `Basic ${Buffer.from('ringback:pass:word').toString('base64')}`
  const response = await fetch(`http://127.0.0.1:${ingest.port}/callbacks/signed`, {
    method: 'POST',
    headers: { authorization: config.credentialDigest!(credential) },
    body: '{}',
  })
  expect(response.status).toBe(401)
})

test('what jsonb does not take is let in as well, as a worker would have stored it', async () => {
  await using database = await freshDatabase()
  await using ingest = await startIngest(database, { config: configOf({ SALT: 'wrong' }) })
  await using _worker = await startWorker(database, { config: configOf({}) })
  const body = Buffer.from(
    `{"callbacks":[${[1, 2, 3].map((id) => JSON.stringify({ ...aCallback(id), note: `note ${id}` })).join(',')}]}`
      .replace('note 1', String.raw`a\u0000b`)
      .replace('note 2', String.raw`a\ud800b`)
      .replace('note 3', 'a\u00ffb'),
    'latin1',
  )
  expect((await post(ingest, body)).status).toBe(401)
  await quarantined(database, 3)

  expect(await releaseEverything(database, configOf({}))).toEqual(
    [1, 2, 3].map(() => ({ kind: 'released', as: 'verified', stored: 1, duplicates: 0 })),
  )
  const stored = await database.sql`
    select payload ->> 'note' as note, position(raw in ${body}::bytea) > 0 as is_raw from events order by callback_id`
  expect(stored).toEqual([1, 2, 3].map(() => ({ note: 'a\ufffdb', is_raw: true })))
})

test('on trust what does not pass is let in, and both rows say so', async () => {
  await using database = await freshDatabase()
  const config = configOf({})
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, { ...aCallback(7), hash: '0'.repeat(32) })
  await post(ingest, 'no json')
  await quarantined(database, 2)
  const outcomes = await releaseEverything(database, config, { trust: true })
  expect(outcomes.toSorted((a, b) => (a.kind < b.kind ? -1 : 1))).toMatchObject([
    { kind: 'refused', reason: 'unreadable_body' },
    { kind: 'released', as: 'trusted' },
  ])
  expect(await database.sql`select callback_id, verified_by, would_refuse from events`).toEqual([
    { callback_id: '7', verified_by: 'none', would_refuse: 'hash_mismatch' },
  ])
  expect(await database.sql`select released_as from quarantine where released_at is not null`).toEqual([
    { released_as: 'trusted' },
  ])
})

test('what came again with a nonce that was used is let in only on trust, though its signature passes', async () => {
  await using database = await freshDatabase()
  const config = resolveConfig(
    { sources: { voice: vobiz({ secrets: 'right' }) } },
    { PUBLIC_BASE_URL: 'https://hooks.example.test' },
  )
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  const target = '/callbacks/voice'
  const body = Buffer.from('Event=Hangup&CallUUID=c1')
  const { headers } = config.sources.get('voice')!.sign(
    {
      method: 'POST',
      url: `https://hooks.example.test${target}`,
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body,
    },
    { at: new Date() },
  )
  const send = (text: string | Buffer) =>
    fetch(`http://127.0.0.1:${ingest.port}${target}`, { method: 'POST', headers, body: text.toString() })
  expect((await send(body)).status).toBe(200)
  await eventually(async () => expect(await database.sql`select from events`).toHaveLength(1))
  // Vobiz signs the URL and the nonce, not the body.
  await send('Event=Hangup&CallUUID=c2')
  await quarantined(database, 1)

  expect(await releaseEverything(database, config)).toEqual([{ kind: 'refused', reason: 'nonce_reused' }])
  expect(await database.sql`select reason, released_at from quarantine`).toEqual([
    { reason: 'nonce_reused', released_at: null },
  ])
  expect(await releaseEverything(database, config, { trust: true })).toMatchObject([
    { kind: 'released', as: 'trusted', stored: 1 },
  ])
})

test('a release by filters takes all that they name, the oldest first', async () => {
  await using database = await freshDatabase()
  await using file = await configFileWith('[]')
  await refuse(database, ...Array.from({ length: 101 }, (_, index) => aCallback(index + 1)))
  const environment = { DATABASE_URL: database.url, RINGBACK_CONFIG: file.path }
  const released = await runCli(environment, 'quarantine', 'release', '--source', 'voximplant', '--yes')
  expect(released.output).toContain('101 released\n')
  const ordered = await database.sql<{ id: string }[]>`select id from quarantine order by released_at`
  expect(ordered.map(({ id }) => id)).toEqual(ordered.map(({ id }) => id).toSorted())
})

test.each([
  ['--source', 'vobiz', ['of another source']],
  ['--reason', 'unreadable_body', ['for another reason']],
  ['--since', '1h', ['for another reason', 'new', 'of another source']],
  ['--until', '1h', ['old']],
])('a release by %s %s shows and takes nothing else', async (option, value, expected) => {
  await using database = await freshDatabase()
  await database.sql`select ensure_partitions(now() - interval '2 hours', now())`
  await database.sql`
    insert into quarantine (id, received_at, source, reason, callback_id, method, url, headers, body, released_at)
    select id, uuid_extract_timestamp(id), source, reason, callback_id, 'POST', '/', '{}', '', released_at
    from (values
      (uuidv7(), 'voximplant', 'hash_mismatch', 'new', null),
      (uuidv7(interval '-2 hours'), 'voximplant', 'hash_mismatch', 'old', null),
      (uuidv7(), 'vobiz', 'hash_mismatch', 'of another source', null),
      (uuidv7(), 'voximplant', 'unreadable_body', 'for another reason', null),
      (uuidv7(), 'voximplant', 'hash_mismatch', 'released before', now()),
      (uuidv7(interval '-2 hours'), 'voximplant', 'hash_mismatch', 'released before', now())
    ) as refused (id, source, reason, callback_id, released_at)`
  const rows = await database.sql<{ id: string; name: string }[]>`select id, callback_id as name from quarantine`
  const taken = async (command: string) => {
    const { output } = await runCli({ DATABASE_URL: database.url }, 'quarantine', command, '--json', option, value)
    return rows.filter(({ id }) => output.includes(id)).map(({ name }) => name)
  }
  for (const command of ['list', 'release']) expect(new Set(await taken(command)), command).toEqual(new Set(expected))
})

test('what Postgres does not take stays in quarantine, and holds up no other', async () => {
  await using database = await freshDatabase()
  await refuse(database, aCallback(1), aCallback(2))
  // By the order in which they are released; that of ids of the same millisecond is chance.
  const [first, second] = await database.sql<{ name: string }[]>`select callback_id as name from quarantine order by id`
  await database.sql.unsafe(`
    create function refuse() returns trigger language plpgsql as $$
    begin
      if new.callback_id = '${first!.name}' then raise 'not this one'; end if;
      return new;
    end $$;
    create trigger refuse before insert on event_names for each row execute function refuse()`)
  expect(await releaseEverything(database, configOf({}))).toEqual([
    { kind: 'refused', reason: 'not_storable: not this one' },
    { kind: 'released', as: 'verified', stored: 1, duplicates: 0 },
  ])
  expect(
    await database.sql`select callback_id, released_at is not null as released from quarantine order by id`,
  ).toEqual([
    { callback_id: first!.name, released: false },
    { callback_id: second!.name, released: true },
  ])
})

test('a disk that is full ends a release, and is not taken for the fault of what is released', async () => {
  await using database = await freshDatabase()
  await refuse(database, aCallback(1))
  await database.sql.unsafe(`
    create function refuse() returns trigger language plpgsql as $$
    begin raise 'no space left' using errcode = 'disk_full'; end $$;
    create trigger refuse before insert on event_names for each row execute function refuse()`)
  await expect(releaseEverything(database, configOf({}))).rejects.toThrow('no space left')
})

test('the command lists, shows what was signed, and releases', async () => {
  await using database = await freshDatabase()
  await using file = await configFileWith('[]')
  await refuse(database, aCallback(1))
  const ringback = (...args: string[]) =>
    runCli({ DATABASE_URL: database.url, RINGBACK_CONFIG: file.path }, 'quarantine', ...args)

  const [row] = await database.sql<{ at: Date }[]>`select received_at as at from quarantine`
  const since = row!.at.toISOString()
  const { output: list } = await ringback('list', '--reason', 'hash_mismatch', '--since', since, '--json')
  const { id, ...listed } = JSON.parse(list) as { id: string }
  expect(listed, 'by the names that "show" has').toMatchObject({ receivedAt: expect.any(String), scope: 'callback' })
  expect(listed).toMatchObject({
    callbackId: '1',
    remoteAddress: '127.0.0.1',
    bytes: expect.any(Number),
    releasedAt: null,
  })
  const { output: shown } = await ringback('show', id)
  expect(JSON.parse(shown)).toMatchObject({
    reason: 'hash_mismatch',
    proofs: [{ signedText: `<salt>${accountId}<api_key>1`, expected: aCallback(1).hash, matches: true }],
  })
  expect(shown).not.toContain(apiKey)
  expect(await ringback('release')).toMatchObject({ code: 1, output: expect.stringMatching(/Name ids/) })
  expect(await ringback('release', '--source', 'voximplant', '--dry-run')).toMatchObject({
    output: expect.stringContaining('Would be: 1 released'),
  })
  expect(await ringback('release', '--source', 'voximplant', '--yes')).toMatchObject({
    code: 0,
    output: '1 released\n',
  })
  expect(await ringback('list')).toMatchObject({ output: expect.stringContaining('Nothing is in quarantine') })
  expect(await database.sql`select from events`).toHaveLength(1)
})

test('a list of refusals does not hold what was sent in memory', async () => {
  await using database = await freshDatabase()
  await database.sql`
    insert into quarantine (id, received_at, source, reason, method, url, headers, body)
    select id, uuid_extract_timestamp(id), 'voximplant', 'hash_mismatch', 'POST', '/', '{}', body
    from (select uuidv7() as id, convert_to(repeat('x', ${2 ** 20}::int), 'UTF8') as body from generate_series(1, 500)) as made`
  const sayMemory = `data:text/javascript,process.on('exit',()=>console.error('maxRSS',process.resourceUsage().maxRSS))`
  const environment = { DATABASE_URL: database.url, NODE_OPTIONS: `--import ${sayMemory}` }
  const { output } = await runCli(environment, 'quarantine', 'list', '--limit', '500')
  expect(output.match(/ 1048576$/gm)).toHaveLength(500)
  expect(Number(/maxRSS (\d+)/.exec(output)![1]) / 1024).toBeLessThan(400)
})

test('of a token for another URL both hashes are shown, and the URL that it was taken to be called by', async () => {
  await using database = await freshDatabase()
  await using file = await configFile(`
    import { defineConfig } from '@ringback/core/config'
    import { messagebird } from '@ringback/core/providers/messagebird'
    export default defineConfig({ sources: { messagebird: messagebird({ secrets: 'secret', urlTokens: 'hush' }) } })`)
  const variables = { PUBLIC_BASE_URL: 'https://inner.example.test' }
  const config = await loadConfig(file.path, variables)
  await using ingest = await startIngest(database, { config })
  await using _worker = await startWorker(database, { config })
  const target = '/callbacks/messagebird/hush?id=m1&status=delivered'
  const unsigned = {
    method: 'GET' as const,
    url: `https://outer.example.test${target}`,
    headers: {},
    body: Buffer.of(),
  }
  const { headers } = config.sources.get('messagebird')!.sign(unsigned, { at: new Date() })
  expect((await fetch(`http://127.0.0.1:${ingest.port}${target}`, { headers })).status).toBe(401)
  await quarantined(database, 1)
  const [row] = await database.sql<{ id: string }[]>`select id from quarantine`
  const environment = { DATABASE_URL: database.url, RINGBACK_CONFIG: file.path, ...variables }
  const { output } = await runCli(environment, 'quarantine', 'show', row!.id)
  expect(JSON.parse(output)).toMatchObject({
    reason: 'url_hash_mismatch',
    proofs: [
      {
        signedText: headers['messagebird-signature-jwt']!.split('.').slice(0, 2).join('.'),
        matches: true,
        url: 'https://inner.example.test/callbacks/messagebird/***?id=m1&status=delivered',
        hashes: [
          {
            name: 'url_hash',
            presented: sha256(unsigned.url),
            expected: sha256(`https://inner.example.test${target}`),
          },
        ],
      },
    ],
  })
  expect(output).not.toContain('hush')
})

test('what a source refused that is off by now is shown, and that nothing can be verified of it', async () => {
  await using database = await freshDatabase()
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database)
  await postCallbacks(ingest, { ...aCallback(1), hash: '0'.repeat(32) })
  await quarantined(database, 1)
  const [row] = await database.sql<{ id: string }[]>`select id from quarantine`
  const off = { DATABASE_URL: database.url, VOXIMPLANT_ACCOUNT_ID: '', VOXIMPLANT_API_KEY: '', VOXIMPLANT_SALT: '' }
  expect(await runCli(off, 'quarantine', 'show', row!.id)).toMatchObject({
    code: 0,
    output: expect.stringMatching(/there is no source "voximplant" that is on[^]*"proofs": null/),
  })
})

test('a slip of the hand lets nothing in: every id is there, and what filters name waits for --yes', async () => {
  await using database = await freshDatabase()
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database)
  await postCallbacks(ingest, ...[1, 2].map((id) => ({ ...aCallback(id), hash: '0'.repeat(32) })))
  await quarantined(database, 2)
  const [first] = await database.sql<{ id: string }[]>`select id from quarantine order by id`
  const { id } = first!
  const release = (...args: string[]) => runCli({ DATABASE_URL: database.url }, 'quarantine', 'release', ...args)

  const missing = '01a20100-2034-72e6-8f19-104d6f900fe4'
  expect(await release(id, missing, '--trust')).toMatchObject({
    code: 1,
    output: expect.stringMatching(/^Nothing with the id 01a20100.*Nothing was changed$/m),
  })
  expect(await release('--source', 'voximplant', '--trust')).toMatchObject({
    code: 0,
    output: 'Would be: 2 released on trust\nNothing was changed; --yes does it\n',
  })
  expect(await release(id)).toMatchObject({ code: 1, output: expect.stringContaining('hash_mismatch') })
  expect(await database.sql`select from quarantine where released_at is not null`).toHaveLength(0)

  expect(await release('--source', 'voximplant', '--trust', '--yes')).toMatchObject({
    code: 0,
    output: '2 released on trust\n',
  })
})
