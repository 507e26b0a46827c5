// Brings docker-compose.yml up as anybody would, with an .env of its own, and checks what docs/docker.md promises:
//
//   node test/compose/run.ts
//
// RINGBACK_COMPOSE_OVERRIDE names one more compose file, such as test/compose/override.yml. Needs Docker, ports that the
// system chooses, and a few minutes.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes, randomInt } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { signCallbackId } from '@ringback/core/providers/voximplant'
import { freePort } from '../support/free-port.ts'

const root = join(import.meta.dirname, '../..')
const project = `ringback-test-${process.pid}`
const override = process.env.RINGBACK_COMPOSE_OVERRIDE
const files = ['docker-compose.yml', ...(override ? [override] : [])].flatMap((file) => ['--file', file])

const secret = () => randomBytes(16).toString('hex')
const credentials = { accountId: String(randomInt(1e9)), apiKey: secret(), salt: secret() }
const values = {
  POSTGRES_PASSWORD: secret(),
  REDIS_PASSWORD: secret(),
  VOXIMPLANT_ACCOUNT_ID: credentials.accountId,
  VOXIMPLANT_API_KEY: credentials.apiKey,
  VOXIMPLANT_SALT: credentials.salt,
  RINGBACK_PORT: String(await freePort()),
  POSTGRES_PORT: String(await freePort()),
}
// A variable of this shell would win over the .env file.
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !Object.hasOwn(values, name) && !name.startsWith('COMPOSE_')),
)
const url = `http://127.0.0.1:${values.RINGBACK_PORT}/callbacks/voximplant`
const folder = await mkdtemp(join(tmpdir(), 'ringback-compose-'))
const envFile = await writeEnvFile(values)

const CALLBACKS_PER_REQUEST = 5
const tally = { names: 0, sent: 0, answered: 0, refusals: 0, forgeriesSent: 0, forgeriesAnswered: 0 }

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void tearDown().then(() => process.exit(1)))
try {
  await checkEverything()
} catch (error) {
  console.error(await compose('logs', '--no-color', '--tail', '5').catch(() => 'no logs'))
  console.error(error)
  process.exitCode = 1
} finally {
  await tearDown()
}

async function checkEverything(): Promise<void> {
  await refusesToStartWithout('POSTGRES_PASSWORD')
  await refusesToStartWithout('REDIS_PASSWORD')

  await compose('build')
  const startedAt = Date.now()
  await compose('up', '--detach', '--wait')
  kept(`docker compose up: everything is healthy after ${Math.round((Date.now() - startedAt) / 1000)} s`)
  await isHealthy()
  await isConfined('ingest')
  await isConfined('worker')
  await publishesTwoPortsOnly()

  for (let i = 0; i < 100; i++) await sendRequest()
  await storedExactly('sent one by one')

  await compose('up', '--detach', '--wait', '--no-recreate', '--scale', 'worker=3')
  assert.equal((await containers('worker')).length, 3)
  kept('docker compose up --scale worker=3: three workers are healthy')

  await underLoad(() => killOne('worker'))
  await storedExactly('sent while a worker was killed and came back')
  for (const service of ['postgres', 'redis']) {
    await underLoad(() => compose('restart', service))
    await storedExactly(`sent during docker compose restart ${service}`)
  }
  await compose('stop', 'redis')
  const { refusals } = tally
  for (let i = 0; i < 50; i++) await sendRequest()
  assert.equal(tally.refusals, refusals)
  await compose('start', 'redis')
  await storedExactly('sent while redis was stopped, and answered at once')
  for (const service of ['ingest', 'worker']) {
    await underLoad(() => stopAndStart(service))
    await storedExactly(`sent while ${service} was stopped, with exit code 0, and started again`)
  }
  await isHealthy()
}

async function refusesToStartWithout(name: keyof typeof values): Promise<void> {
  const incomplete = await writeEnvFile({ ...values, [name]: '' })
  const refusal = docker('compose', ...files, '--env-file', incomplete, '--project-name', project, 'up', '--detach')
  await assert.rejects(refusal, new RegExp(`${name} is missing a value: set it in .env`))
  kept(`docker compose up stops without ${name} and says so`)
}

async function isHealthy(): Promise<void> {
  await until('every container is healthy', async () =>
    (await containers()).every(({ service, State }) =>
      service === 'migrate' ? State.ExitCode === 0 : State.Health?.Status === 'healthy',
    ),
  )
  kept('every container is healthy, and migrate has ended with 0')
}

async function isConfined(service: string): Promise<void> {
  for (const { Id, HostConfig } of await containers(service)) {
    assert.notEqual(await docker('exec', Id, 'id', '-u'), '0')
    // Whatever the umask of the checkout was: the files of this one may be readable by all.
    assert.equal(
      await docker('exec', Id, 'sh', '-c', 'find /app -mindepth 1 ! -user "$(id -u)" ! -name ringback.config.ts'),
      '',
    )
    await assert.rejects(docker('exec', Id, 'touch', '/app/new'), /Read-only file system/)
    assert.deepEqual(HostConfig.CapDrop, ['ALL'])
    assert.deepEqual(HostConfig.SecurityOpt, ['no-new-privileges:true'])
    assert.ok(HostConfig.Memory > 0)
  }
  kept(`${service} is not root, has no capabilities, a read-only root file system and a memory limit`)
}

async function publishesTwoPortsOnly(): Promise<void> {
  const published = (await containers()).flatMap(({ service, NetworkSettings }) =>
    Object.values(NetworkSettings.Ports).flatMap((bindings) =>
      (bindings ?? []).map(({ HostIp, HostPort }) => ({ service, HostIp, HostPort })),
    ),
  )
  const ingest = published.filter(({ service }) => service === 'ingest')
  assert.deepEqual([...new Set(ingest.map(({ HostPort }) => HostPort))], [values.RINGBACK_PORT])
  assert.deepEqual(
    published.filter(({ service }) => service !== 'ingest'),
    [{ service: 'postgres', HostIp: '127.0.0.1', HostPort: values.POSTGRES_PORT }],
  )
  kept("no port is published but ingest's, and Postgres's on 127.0.0.1")
}

/** Sends callbacks before, during and after `disturb`. */
async function underLoad(disturb: () => Promise<unknown>): Promise<void> {
  let stopping = false
  const senders = Array.from({ length: 8 }, async () => {
    while (!stopping) await sendRequest()
  })
  const disturbed = moreAnswered(200)
    .then(disturb)
    .then(() => moreAnswered(200))
  await Promise.race([disturbed, Promise.all(senders)]).finally(() => (stopping = true))
  await Promise.all(senders)
}

function moreAnswered(count: number): Promise<void> {
  const target = tally.answered + count
  return until('callbacks are answered', () => tally.answered >= target)
}

/** New callbacks in one request, which comes twice now and then; one request in ten is forged. */
async function sendRequest(): Promise<void> {
  const first = tally.names + 1
  if (randomInt(10) === 0) {
    const times = await post(requestBody(first, { ...credentials, salt: 'wrong' }), 401)
    tally.forgeriesSent += times * CALLBACKS_PER_REQUEST
    tally.forgeriesAnswered += CALLBACKS_PER_REQUEST
    return
  }
  tally.names += CALLBACKS_PER_REQUEST
  const body = requestBody(first, credentials)
  do {
    const times = await post(body, 200)
    tally.sent += times * CALLBACKS_PER_REQUEST
    tally.answered += CALLBACKS_PER_REQUEST
  } while (randomInt(5) === 0)
}

function requestBody(first: number, signer: typeof credentials): string {
  const ids = Array.from({ length: CALLBACKS_PER_REQUEST }, (_, index) => String(first + index))
  return JSON.stringify({
    callbacks: ids.map((id) => ({
      callback_id: id,
      account_id: credentials.accountId,
      type: 'min_balance',
      min_balance: { balance: 1.5, threshold: 2 },
      hash: signCallbackId(signer, id),
    })),
  })
}

/** Sends until the answer is `expected`, as a provider does; returns how often that was. */
async function post(body: string, expected: number): Promise<number> {
  let tries = 0
  await until(`the answer is ${expected}`, async () => {
    tries += 1
    const status = await fetch(url, { method: 'POST', body, signal: AbortSignal.timeout(5000) }).then(
      async (response) => {
        await response.arrayBuffer()
        return response.status
      },
      () => 'no answer',
    )
    assert.ok([expected, 503, 'no answer'].includes(status), `ingest answered ${status} instead of ${expected}`)
    if (status !== expected) tally.refusals += 1
    return status === expected
  })
  return tries
}

/** Everything that was answered is stored, once. What had to be sent again may have been counted as a duplicate, or not. */
async function storedExactly(when: string): Promise<void> {
  await until('everything is stored', async () => {
    const { events, refused } = await stored()
    return events >= tally.names && refused >= tally.forgeriesAnswered && (await waitingGroups()) === 0
  })
  const { events, distinct, duplicates, refused } = await stored()
  assert.equal(events, tally.names)
  assert.equal(distinct, tally.names)
  isBetween(duplicates, tally.answered - tally.names, tally.sent - tally.names)
  isBetween(refused, tally.forgeriesAnswered, tally.forgeriesSent)
  kept(`${events} events, ${duplicates} duplicates and ${refused} forgeries are stored, as they were ${when}`)
}

function isBetween(value: number, least: number, most: number): void {
  assert.ok(value >= least && value <= most, `${value} is not between ${least} and ${most}`)
}

async function stored(): Promise<{ events: number; distinct: number; duplicates: number; refused: number }> {
  const row = await query(`
    select json_build_object(
      'events', count(*), 'distinct', count(distinct callback_id), 'duplicates', coalesce(sum(duplicates), 0),
      'refused', (select count(*) from quarantine) + (select coalesce(sum(count), 0) from quarantine_dropped)
    )
    from events`)
  return JSON.parse(row)
}

function query(sql: string): Promise<string> {
  const psql = ['psql', '--username', 'ringback', '--tuples-only', '--no-align', '--command', sql]
  return compose('exec', '-T', 'postgres', ...psql)
}

async function waitingGroups(): Promise<number> {
  const keys = await compose('exec', '-T', 'redis', 'redis-cli', '--scan', '--pattern', '{ringback}:store:group-*')
  return keys.split('\n').filter(Boolean).length
}

async function killOne(service: string): Promise<void> {
  const [victim] = await containers(service)
  const restarts = async () => (await containers(service)).find(({ Id }) => Id === victim!.Id)!.RestartCount
  // From inside, for Docker does not restart what it was told to kill.
  await docker('exec', victim!.Id, 'sh', '-c', 'kill -KILL -1').catch(() => undefined)
  await until(`the killed ${service} is restarted`, async () => (await restarts()) === 1)
}

/** Stops as `docker compose down` does, by SIGTERM. */
async function stopAndStart(service: string): Promise<void> {
  await compose('stop', service)
  for (const { State } of await containers(service)) assert.equal(State.ExitCode, 0)
  await compose('start', service)
}

interface Container {
  service: string
  Id: string
  RestartCount: number
  State: { ExitCode: number; Health?: { Status: string } }
  HostConfig: { CapDrop: string[]; SecurityOpt: string[]; Memory: number }
  NetworkSettings: { Ports: Record<string, { HostIp: string; HostPort: string }[] | null> }
  Config: { Labels: Record<string, string> }
}

async function containers(...services: string[]): Promise<Container[]> {
  const ids = (await compose('ps', '--all', '--quiet', ...services)).split('\n')
  const inspected: Omit<Container, 'service'>[] = JSON.parse(await docker('inspect', ...ids))
  return inspected.map((container) => ({
    ...container,
    service: container.Config.Labels['com.docker.compose.service']!,
  }))
}

function compose(...args: string[]): Promise<string> {
  return docker('compose', ...files, '--env-file', envFile, '--project-name', project, ...args)
}

async function docker(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)('docker', args, { cwd: root, env, maxBuffer: 64 * 1024 * 1024 })
  return stdout.trim()
}

async function tearDown(): Promise<void> {
  await compose('down', '--volumes', '--timeout', '20').catch(console.error)
  await rm(folder, { recursive: true, force: true })
}

/** `.env.example` with `values` in place of its own. */
async function writeEnvFile(own: Record<string, string>): Promise<string> {
  let text = await readFile(join(root, '.env.example'), 'utf8')
  for (const [name, value] of Object.entries(own)) {
    const line = new RegExp(`^${name}=.*$`, 'm')
    assert.match(text, line, `.env.example has no ${name}`)
    text = text.replace(line, `${name}=${value}`)
  }
  const file = join(folder, `${secret()}.env`)
  await writeFile(file, text, { mode: 0o600 })
  return file
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 120_000
  while (!(await isSo())) {
    assert.ok(Date.now() < deadline, `waited two minutes until ${what}`)
    await pause(100)
  }
}

function kept(promise: string): void {
  console.log(`ok  ${promise}`)
}
