import { spawnSync } from 'node:child_process'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { providers } from '@ringback/core/providers/all'
import { recipeOf } from '@ringback/core/providers/page'
import { code, log } from '@ringback/core/handlers'
import {
  aCallback,
  configWith,
  eventually,
  freshDatabase,
  groupOf,
  idAt,
  postCallbacks,
  queued,
  startIngest,
  startWorker,
  storeOneByOne,
} from './support/ringback.ts'
import { configFile, runApp, runCli, temporaryFolder } from './support/processes.ts'

test('events are listed, filtered, paged, followed and shown', async () => {
  await using database = await freshDatabase()
  const config = configWith({
    handlers: [
      { name: 'note', on: { type: 'min_balance' }, run: log({ message: 'low' }) },
      { name: 'note-all', run: log({ message: 'came' }) },
    ],
  })
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database, { config })
  await using following = runApp('cli', { DATABASE_URL: database.url }, [
    'events',
    '--follow',
    '--json',
    '--type',
    'min*',
  ])
  await following.prints(/Following/)
  for (const id of [1, 2, 3]) await postCallbacks(ingest, aCallback(id))
  await postCallbacks(ingest, aCallback(4, { type: 'min_balance' }))
  await postCallbacks(ingest, aCallback(4, { type: 'min_balance', balance: 9 }))
  await eventually(async () => expect(await database.sql`select from events where duplicates > 0`).toHaveLength(1))
  await eventually(async () =>
    expect(await database.sql`select from deliveries where status = 'succeeded'`).toHaveLength(5),
  )

  const ringback = async (...args: string[]) => {
    const { output } = await runCli({ DATABASE_URL: database.url }, '--json', ...args)
    return output
      .trim()
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as { id: string; callbackId: string })
  }
  const all = await ringback('events')
  expect(all.map(({ callbackId }) => callbackId)).toEqual(['4', '3', '2', '1'])
  expect(
    (await ringback('events', '--limit', '2', '--before', all[1]!.id)).map(({ callbackId }) => callbackId),
  ).toEqual(['2', '1'])
  expect(
    (await ringback('events', '--type', 'sms_*', '--callback-id', '2', '--since', '1h')).map(
      ({ callbackId }) => callbackId,
    ),
  ).toEqual(['2'])
  expect(await ringback('events', '--type', 'sms%')).toEqual([])
  expect(await ringback('events', '--until', '1h')).toEqual([])
  expect(await ringback('events', '--since', '1w', '--until', '0s', '--type', 'min*')).toHaveLength(1)
  expect(await ringback('events', 'show', all[0]!.id)).toMatchObject([
    {
      callbackId: '4',
      duplicates: 1,
      repetitions: [{ changed: true }],
      deliveries: [
        { handler: 'note', status: 'succeeded', runs: [{ number: 1 }] },
        { handler: 'note-all', status: 'succeeded', runs: [{ number: 1 }] },
      ],
    },
  ])
  await following.prints(/"callbackId":"4"/)
  expect(following.output()).not.toContain('"callbackId":"3"')
})

test('what a sender chose moves no cursor and ends no line where people read it, and JSON has it as it is', async () => {
  await using database = await freshDatabase()
  const environment = { DATABASE_URL: database.url }
  await using following = runApp('cli', environment, ['events', '--follow'])
  await following.prints(/Following/)
  const type = 'a\u001b]0;title\u0007\u001b[2J\nb\u009b31m\u202ec\u2028\u{e0001}'
  const shown = String.raw`a\u001b]0;title\u0007\u001b[2J\u000ab\u009b31m\u202ec\u2028\udb40\udc01`
  const event = queued('1', { type, raw: Buffer.from(JSON.stringify({ type })).toString('base64') })
  const refusal = {
    id: idAt(new Date().toISOString()),
    source: 'voximplant',
    reason: 'signature_mismatch',
    scope: 'callback' as const,
    method: 'POST',
    url: '/callbacks/voximplant',
    headers: {},
    body: '',
    callbackId: type,
  }
  await storeOneByOne(database)(groupOf([event], [refusal]))

  await following.prints(/min_balance|title/)
  for (const args of [['events'], ['quarantine', 'list']]) {
    const { output } = await runCli(environment, ...args)
    expect(output).toContain(shown)
    expect(output.trim().split('\n')).toHaveLength(2)
  }
  expect(following.output()).toContain(shown)
  const { output } = await runCli(environment, 'events', 'show', event.id)
  expect(output.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}\u2028]/u)
  expect(JSON.parse(output)).toMatchObject({ type, payload: { type } })
  const failed = await runCli(environment, 'replay', event.id)
  expect(failed.output).toContain('title')
  expect(failed.output.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}\u2028]/u)
  expect(JSON.parse((await runCli(environment, '--json', 'events')).output)).toMatchObject({ type })
})

test('a command whose reader has gone says so and fails', async () => {
  await using database = await freshDatabase()
  await using following = runApp('cli', { DATABASE_URL: database.url }, ['events', '--follow'])
  await following.prints(/Following/)
  following.child.stdout!.destroy()
  await storeOneByOne(database)(groupOf([queued('1')]))
  expect(await following.ended).toBe(1)
  expect(following.output()).toMatch(/ends it\nNobody reads the standard output any more\n$/)
})

// Only Linux has a file that is always full.
test.runIf(process.platform === 'linux')('a command whose output finds the disk full says so and fails', async () => {
  await using database = await freshDatabase()
  await storeOneByOne(database)(groupOf([queued('1')]))
  await using full = await open('/dev/full', 'w')
  for (const args of [
    ['events', '--json'],
    ['export', '--since', '1h', '--format', 'csv', '--out', '-'],
  ]) {
    const ended = spawnSync(process.execPath, ['apps/cli/src/main.ts', ...args], {
      env: { PATH: process.env.PATH, DATABASE_URL: database.url },
      stdio: ['ignore', full.fd, 'pipe'],
      encoding: 'utf8',
    })
    expect(ended, args.join(' ')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^The standard output is lost: ENOSPC/),
    })
  }
})

test('each filter of events leaves out what it does not ask for', async () => {
  await using database = await freshDatabase()
  const twoHoursAgo = new Date(Date.now() - 2 * 3_600_000).toISOString()
  await storeOneByOne(database)(
    groupOf([
      queued('old', { id: idAt(twoHoursAgo) }),
      queued('of another source', { source: 'vobiz' }),
      queued('of another account', { accountId: '2' }),
      queued('of a call', { callId: 'call-1' }),
    ]),
  )
  const listed = async (...args: string[]) => {
    const { output } = await runCli({ DATABASE_URL: database.url }, 'events', '--json', ...args)
    return new Set([...output.matchAll(/"callbackId":"([^"]*)"/g)].map(([, callbackId]) => callbackId))
  }
  expect(await listed('--source', 'vobiz')).toEqual(new Set(['of another source']))
  expect(await listed('--account', '2')).toEqual(new Set(['of another account']))
  expect(await listed('--call-id', 'call-1')).toEqual(new Set(['of a call']))
  expect(await listed('--since', '1h')).toEqual(new Set(['of a call', 'of another account', 'of another source']))
  expect(await listed('--since', twoHoursAgo)).toContain('old')
  expect(await listed('--until', twoHoursAgo)).toEqual(new Set())
})

test('a replay takes what has ended, of one handler if that is asked for, and never what is still being tried', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const { handlers } = configWith({
    handlers: ['failed', 'succeeded', 'tried'].map((name) => ({ name, run: log({ message: 'came' }) })),
  })
  await storeOneByOne(database, { handlers })(groupOf([queued('1')]))
  await sql`
    update deliveries
    set status = case handler when 'failed' then 'dead' else 'succeeded' end, attempts = 2, next_attempt_at = null,
      lease_until = null, finished_at = now()
    where handler <> 'tried'`
  const [event] = await sql<{ id: string }[]>`select id from events`
  const [failed] = await sql<{ id: string }[]>`select id from deliveries where handler = 'failed'`
  const tried = await sql`select * from deliveries where handler = 'tried'`
  const replayed = async (...args: string[]) => {
    const { output } = await runCli({ DATABASE_URL: database.url }, 'replay', '--json', ...args)
    return [...output.matchAll(/"handler":"([^"]*)"/g)].map(([, handler]) => handler)
  }
  const pending = () => sql`
    select handler, attempts_at_replay as since, next_attempt_at <= now() and finished_at is null as due
    from deliveries where status = 'pending' and handler <> 'tried' order by 1`

  expect(await replayed(event!.id, '--handler', 'succeeded')).toEqual(['succeeded'])
  expect(await pending()).toEqual([{ handler: 'succeeded', since: 2, due: true }])
  expect(await replayed(failed!.id)).toEqual(['failed'])
  expect(await pending()).toEqual([
    { handler: 'failed', since: 2, due: true },
    { handler: 'succeeded', since: 2, due: true },
  ])
  expect(await replayed(event!.id)).toEqual([])
  expect(await sql`select * from deliveries where handler = 'tried'`).toEqual(tried)
})

test('an event is shown with its attempts and its repetitions in the order of time', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await storeOneByOne(database)(groupOf([queued('1')]))
  const [event] = await sql<{ id: string }[]>`select id from events`
  await sql`
    insert into deliveries (event_id, event_received_at, handler, status, attempts, finished_at)
    select id, received_at, 'crm', 'succeeded', 3, now() from events`
  await sql`
    insert into attempts (delivery_id, event_received_at, number, outcome)
    select id, event_received_at, n, 'failed' from deliveries, unnest(array[2, 3, 1]) as n`
  await sql`
    insert into duplicates (id, event_id, event_received_at, received_at, content_hash, changed)
    select uuidv7(), id, received_at, received_at + n * interval '1 second', '', n = 2
    from events, unnest(array[2, 3, 1]) as n`
  const { output } = await runCli({ DATABASE_URL: database.url }, 'events', 'show', event!.id, '--json')
  expect(JSON.parse(output)).toMatchObject({
    deliveries: [{ runs: [{ number: 1 }, { number: 2 }, { number: 3 }] }],
    repetitions: [{ changed: false }, { changed: true }, { changed: false }],
  })
})

test('an event is shown with every digit of the ids in its payload, and one that is too long as text without it', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  const raw = Buffer.from('{"id":9223372036854775807,"n":1}').toString('base64')
  await storeOneByOne(database)(groupOf([queued('1', { raw })]))
  const [event] = await sql<{ id: string }[]>`select id from events`
  const payload = async () => {
    const { output } = await runCli({ DATABASE_URL: database.url }, 'events', 'show', event!.id, '--json')
    return (JSON.parse(output) as { payload: unknown }).payload
  }
  expect(await payload()).toEqual({ id: '9223372036854775807', n: 1 })
  await sql`update events set payload = to_jsonb(repeat('x', ${5 * 2 ** 20}))`
  expect(await payload()).toBe(null)
})

test('a replay runs a handler that did not act on the event when it was stored, and makes one delivery of it', async () => {
  await using database = await freshDatabase()
  const { sql } = database
  await storeOneByOne(database, { handlers: [] })(groupOf([queued('1'), queued('2')]))
  const [one, two] = await sql<{ id: string }[]>`select id from events order by callback_id`
  await using file = await configFile(`
    import { defineConfig } from '@ringback/core/config'
    import { log } from '@ringback/core/handlers'
    const run = log({ message: 'came' })
    export default defineConfig({ sources: {}, handlers: [{ name: 'star', on: { type: 'another' }, run }] })`)
  const environment = { DATABASE_URL: database.url, RINGBACK_CONFIG: file.path }
  const replay = (id: string, handler: string) => runCli(environment, 'replay', id, '--handler', handler)
  const deliveries = () => sql`select event_id as id, handler, status, attempts from deliveries`

  expect(await replay(one!.id, 'moon')).toMatchObject({
    code: 1,
    output: expect.stringMatching(/no delivery of a handler "moon", and the configuration has no such handler/),
  })
  expect(await deliveries()).toEqual([])
  expect(await replay(one!.id, 'star')).toMatchObject({ code: 0, output: expect.stringMatching(/Runs again:[^]*star/) })
  expect(await deliveries()).toEqual([{ id: one!.id, handler: 'star', status: 'pending', attempts: 0 }])

  // Somebody else adds the delivery after this replay has found none.
  const { second } = await sql.begin(async (transaction) => {
    await transaction`
      insert into deliveries (event_id, event_received_at, handler, next_attempt_at)
      select id, received_at, 'star', now() from events where id = ${two!.id}`
    const second = replay(two!.id, 'star') // ends after this transaction
    await eventually(async () =>
      expect(
        await sql`
          select from pg_stat_activity
          where application_name = 'ringback cli' and datname = current_database() and wait_event_type = 'Lock'`,
      ).toHaveLength(1),
    )
    return { second }
  })
  expect(await second).toMatchObject({ code: 0, output: expect.stringMatching(/Nothing to replay/) })
  expect(await deliveries()).toHaveLength(2)

  const config = configWith({ handlers: [{ name: 'star', on: { type: 'another' }, run: log({ message: 'came' }) }] })
  await using _worker = await startWorker(database, { config })
  await eventually(async () =>
    expect(await sql`select attempts from deliveries where status = 'succeeded'`).toEqual([
      { attempts: 1 },
      { attempts: 1 },
    ]),
  )
})

test('a replay runs an event again under a key of its own, and stores no second event', async () => {
  await using database = await freshDatabase()
  const keys: string[] = []
  let works = false
  const sometimes = async (_event: unknown, { idempotencyKey }: { idempotencyKey: string }) => {
    keys.push(idempotencyKey)
    if (!works) throw new Error('not yet')
  }
  const retry = { maxAttempts: 2, firstDelayMs: 100, maxDelayMs: 100 }
  const config = configWith({ handlers: [{ name: 'sometimes', run: code(sometimes), retry }] })
  await using ingest = await startIngest(database)
  await using _worker = await startWorker(database, { config })
  await postCallbacks(ingest, aCallback(1))
  await eventually(async () => expect(await database.sql`select from deliveries where status = 'dead'`).toHaveLength(1))

  const [event] = await database.sql<{ id: string }[]>`select id from events`
  works = true
  const { output } = await runCli({ DATABASE_URL: database.url }, 'replay', event!.id, '--json')
  expect(JSON.parse(output), 'one value a line').toEqual({ id: expect.any(String), handler: 'sometimes', attempts: 2 })
  await eventually(async () =>
    expect(await database.sql`select attempts from deliveries where status = 'succeeded'`).toEqual([{ attempts: 3 }]),
  )
  expect(await database.sql`select from events`).toHaveLength(1)
  expect(keys[0]).toBe(keys[1])
  expect(keys[2]).not.toBe(keys[0])
})

test.each([
  [['replay', 'x'], /"x" is no id/],
  [['replay', '01a20100-2034-72e6-8f19-104d6f900fe4'], /There is no event and no delivery 01a20100/],
  [['events', '--since', 'yesterday'], /must be a time.*or an age/],
  [['events', '--limit', '0'], /whole number from 1/],
  [['events', 'show', '1'], /"1" is no id/],
  [['send', 'nobody', 'x'], /no sender for "nobody"/],
  [['send', 'voximplant', 'x', '--url', 'nowhere'], /--url is no URL/],
  [['send', 'voximplant', 'x', '--url', 'ftp:/x'], /--url is no URL of http or https, such as/],
  [['providers', 'nobody'], /no provider "nobody"; there are: voximplant/],
  [['send', 'voximplant', 'x', '--forged', '200%'], /percentage from 0% to 100%/],
  [['send', 'voximplant', 'x', '--duplicates', '0.2'], /percentage from 0% to 100%, such as 20%/],
  [['send', 'voximplant', 'x', '--duplicates', '60%', '--forged', '60%'], /together are more than 100%/],
  [['quarantine', 'release', '01a20100-2034-72e6-8f19-104d6f900fe4', '--reason', 'x'], /ids or filters, not both/],
  [['quarantine', 'release', '--until', '0s', '--trust', '--yes'], /--trust goes with ids, or with --source/],
  [['events', '--follow', '--limit', '5'], /'--follow' cannot be used with option '--limit <n>'/],
  [['events', '--follow', '--until', '1h'], /'--follow' cannot be used with option '--until <time>'/],
  [['events', '--sinse', '1h'], /^error: unknown option '--sinse'\n\(Did you mean --since\?\)\n\(--help tells.*\)\s*$/],
  [['frobnicate'], /unknown command 'frobnicate'/],
])('%j ends with an error that says what to do', async (args, message) => {
  await using database = await freshDatabase()
  const { code: exitCode, output } = await runCli({ DATABASE_URL: database.url }, ...args)
  expect(output).toMatch(message)
  expect(output).not.toMatch(/ {4}at /)
  expect(exitCode).toBe(1)
})

test('send fails where a genuine callback is refused, and not where a forged one is', async () => {
  await using database = await freshDatabase()
  await using ingest = await startIngest(database)
  const send = async (source: string, ...options: string[]) => {
    const url = `http://127.0.0.1:${ingest.port}/callbacks/${source}`
    return (await runCli({}, 'send', 'voximplant', 'min_balance', '--url', url, ...options)).code
  }
  expect(await send('voximplant')).toBe(0)
  expect(await send('voximplant', '--count', '2', '--forged', '50%')).toBe(0)
  expect(await send('nobody')).toBe(1)
})

test('send --no-retry tries each request once, and fails where nobody answers, whatever it sends', async () => {
  const environment = { VOBIZ_AUTH_TOKEN: 'a token', PUBLIC_BASE_URL: 'https://hooks.example.com' }
  const options = ['--forged', '100%', '--no-retry', '--json', '--url', 'http://127.0.0.1:1/callbacks/vobiz']
  const { code: exitCode, output } = await runCli(environment, 'send', 'vobiz', 'Ring', ...options)
  expect(JSON.parse(output)).toMatchObject({ requests: { failed: 1 }, attempts: { total: 1 } })
  expect(exitCode).toBe(1)
})

test('the version is told', async () => {
  expect(await runCli({}, '--version')).toEqual({ code: 0, output: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
})

test('a database that lacks the migrations says what brings them, and one that refuses says where it is', async () => {
  await using database = await freshDatabase()
  const there = new URL(database.url)
  const nowhere = new URL('/nodb', there).href
  expect(await runCli({ DATABASE_URL: nowhere }, 'events')).toMatchObject({
    code: 1,
    output: expect.stringContaining(`Postgres at ${there.host} refuses: database "nodb" does not exist; DATABASE_URL`),
  })
  await database.sql`drop table events cascade`
  for (const args of [['events'], ['deliveries', 'list']]) {
    expect(await runCli({ DATABASE_URL: database.url }, ...args)).toMatchObject({
      code: 1,
      output: expect.stringContaining('run "ringback migrate"'),
    })
  }
})

test('a Postgres that does not answer is named', async () => {
  const { code: exitCode, output } = await runCli({ DATABASE_URL: 'postgres://a:hush@127.0.0.1:1/x' }, 'events')
  expect(exitCode).toBe(1)
  expect(output).toMatch(/Postgres does not answer at 127\.0\.0\.1:1/)
  expect(output).not.toContain('hush')
})

test('the configuration is checked, and every problem is reported without its value', async () => {
  const good = await runCli({}, 'config', 'check')
  expect(good).toMatchObject({
    code: 0,
    output: expect.stringMatching(
      /voximplant \(voximplant, account\): on, with public demo credentials[^]*low-balance/,
    ),
  })
  await using lax = await configFile(`
    import { defineConfig } from '@ringback/core/config'
    import { voximplant } from '@ringback/core/providers/voximplant'
    export default defineConfig({ sources: { a: voximplant({ urlTokens: 'hush', shadow: true }) } })`)
  expect(await runCli({ RINGBACK_CONFIG: lax.path }, 'config', 'check'), 'what is not verified').toEqual({
    code: 0,
    output: expect.stringMatching(
      /^source a .*: on, with a URL token, signatures are not verified, for no secret is set, in shadow mode$/m,
    ),
  })
  await using broken = await configFile(`
    import { defineConfig, env } from '@ringback/core/config'
    import { voximplant } from '@ringback/core/providers/voximplant'
    export default defineConfig({ sources: {
      a: voximplant({ accounts: [{ accountId: '1', apiKey: env('A_KEY'), salts: 'hush' }] }),
      b: voximplant({ urlTokens: 'hush', dropFields: ['type'] }),
    } })`)
  const bad = await runCli({ RINGBACK_CONFIG: broken.path }, 'config', 'check')
  expect(bad.code).toBe(1)
  expect(bad.output).toMatch(/sources\.a: A_KEY is not set[^]*sources\.b: dropFields/)
  expect(bad.output).not.toContain('hush')
  const asJson = await runCli({ RINGBACK_CONFIG: broken.path }, 'config', 'check', '--json')
  expect(asJson.code).toBe(1)
  expect(JSON.parse(asJson.output)).toEqual({
    problems: [expect.stringMatching(/^sources\.a: A_KEY/), expect.stringMatching(/^sources\.b: dropFields/)],
  })
})

test('the configuration may lie outside of Ringback’s folder, with files of its own beside it', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'elsewhere.config.ts')
  await writeFile(
    join(folder.path, 'note.ts'),
    `import { log } from '@ringback/core/handlers'
    export const note = log({ message: 'noted' })`,
  )
  await writeFile(
    path,
    `import { defineConfig } from '@ringback/core/config'
    import { note } from './note.ts'
    export default defineConfig({ sources: {}, handlers: [{ name: 'note', run: note }] })`,
  )
  expect(await runCli({ RINGBACK_CONFIG: path }, 'config', 'check')).toEqual({
    code: 0,
    output: 'handler note (log): on {}\n',
  })
})

test('the recipe of every provider is a configuration that is taken, with its values set and with none', async () => {
  const recipes = providers.map((provider) => recipeOf(provider).split('\n\n') as [imports: string, entry: string])
  await using file = await configFile(`
    import { defineConfig, env } from '@ringback/core/config'
    ${recipes.map(([imports]) => imports).join('\n')}
    export default defineConfig({ sources: { ${recipes.map(([, entry]) => entry).join('\n')} } })`)
  // A secret in every form that is asked for: a text, base64, a public key, a part of a URL.
  const secret = Buffer.alloc(32).toString('base64')
  const names = recipes.flatMap(([, entry]) =>
    [...entry.matchAll(/env\('(\w+)'\)/g)].map(([, name]) => [name!, secret]),
  )
  const values = Object.fromEntries(names) as Record<string, string>
  const ofDemo = { VOXIMPLANT_ACCOUNT_ID: '', VOXIMPLANT_API_KEY: '', VOXIMPLANT_SALT: '' }
  const stated = async (environment: Record<string, string>) =>
    (await runCli({ RINGBACK_CONFIG: file.path, ...environment }, 'config', 'check')).output.trim().split('\n')
  expect(await stated({ PUBLIC_BASE_URL: 'https://hooks.example.test', ...values })).toEqual(
    providers.map(({ name }) => expect.stringMatching(`^source ${name} .*: on`)),
  )
  expect(await stated({ REDIS_URL: 'redis://queue', ...ofDemo })).toEqual(
    providers.map(({ name }) => expect.stringMatching(`^source ${name}: off`)),
  )
})
