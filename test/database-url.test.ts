import { execFile } from 'node:child_process'
import { chown, mkdtemp, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createProducer, migrateQueue } from '@ringback/core/queue'
import { connect } from '@ringback/core/store/connect'
import { dataFolder } from './support/data-folder.ts'
import { ensureProgram } from './support/programs.ts'
import { ownPostgres } from './support/postgres-server.ts'
import type { PostgresServer } from './support/postgres-server.ts'
import { runCli } from './support/processes.ts'
import { eventually, log } from './support/ringback.ts'
import { proxyTo } from './support/tcp-proxy.ts'

// What DATABASE_URL says is so for both drivers: for the one of the tables, and for that of a queue in Postgres.

let server: PostgresServer
let folder: string
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(await dataFolder(), 'ringback-own-postgres-'))
  const settings = ['listen_addresses=127.0.0.1,::1', `unix_socket_directories=${folder}`]
  server = await ownPostgres(settings, { dataDir: folder })
  await makeAuthority('own')
  await makeAuthority('other')
  await certify('server', 'own', 'IP:127.0.0.1')
  const sql = connect(server.url, { max: 1, applicationName: 'ringback tests' })
  await sql.unsafe(`alter system set ssl_cert_file = '${file('server.crt')}'`)
  await sql.unsafe(`alter system set ssl_key_file = '${file('server.key')}'`)
  await sql.unsafe('alter system set ssl = on')
  await sql`select pg_reload_conf()`
  await sql.end()
  await eventually(() => useOf(urlOf('127.0.0.1', '?sslmode=require')))
})

afterAll(() => server[Symbol.asyncDispose]())

async function openssl(...args: string[]): Promise<void> {
  await promisify(execFile)(ensureProgram('openssl', { package: 'openssl' }), args)
}

async function makeAuthority(name: string): Promise<void> {
  const key = ['-newkey', 'rsa:2048', '-nodes', '-keyout', file(`${name}.key`)]
  await openssl('req', '-x509', ...key, '-subj', `/CN=${name}`, '-days', '2', '-out', file(`${name}.crt`))
}

/** A key that is the server's own, and a certificate for it. */
async function certify(name: string, authority: string, subjectAltName: string): Promise<void> {
  const request = file(`${name}.csr`)
  await openssl(
    'req',
    '-newkey',
    'rsa:2048',
    '-nodes',
    '-keyout',
    file(`${name}.key`),
    '-subj',
    '/CN=x',
    '-out',
    request,
  )
  await writeFile(file('extensions'), `subjectAltName=${subjectAltName}\n`)
  const signer = ['-CA', file(`${authority}.crt`), '-CAkey', file(`${authority}.key`), '-extfile', file('extensions')]
  await openssl('x509', '-req', '-in', request, ...signer, '-days', '2', '-out', file(`${name}.crt`))
  const owner = await stat(file('postgres'))
  for (const part of ['crt', 'key']) await chown(file(`${name}.${part}`), owner.uid, owner.gid)
}

function urlOf(host: string, query = ''): string {
  return `postgres://ringback:ringback@${host}:${server.port}/ringback${query}`
}

/** What both drivers find out about their connections. */
async function useOf(url: string): Promise<{ isEncrypted: boolean; address: string | null }> {
  const sql = connect(url, { max: 1, applicationName: 'ringback tests' })
  try {
    const [session] = await sql<[{ isEncrypted: boolean; address: string | null }]>`
      select ssl as "isEncrypted", host(inet_server_addr()) as address from pg_stat_ssl where pid = pg_backend_pid()`
    await useQueue(url)
    return session
  } finally {
    await sql.end({ timeout: 1 })
  }
}

async function useQueue(url: string): Promise<void> {
  await migrateQueue({ kind: 'postgres', url })
  const producer = createProducer({ kind: 'postgres', url }, 'store', { timeoutMs: 5000, log })
  await producer.probe().finally(producer.close)
}

test.each([
  ['', false],
  ['?sslmode=disable', false],
  ['?sslmode=require', true],
  ['?sslmode=verify-ca&sslrootcert=own', true],
  ['?sslmode=verify-full&sslrootcert=own', true],
])('with "%s" events and queue are reached, encrypted: %s', async (query, isEncrypted) => {
  const url = urlOf('127.0.0.1', query.replace('=own', `=${file('own.crt')}`))
  expect(await useOf(url)).toEqual({ isEncrypted, address: '127.0.0.1' })
})

test('the name in the certificate matters to verify-full, and not to verify-ca', async () => {
  const ofMode = (mode: string) => urlOf('localhost', `?sslmode=${mode}&sslrootcert=${file('own.crt')}`)
  expect(await useOf(ofMode('verify-ca'))).toMatchObject({ isEncrypted: true })
  await expectRefused(ofMode('verify-full'), /does not match|altnames/)
})

test.each(['require', 'verify-ca', 'verify-full'])(
  'with sslmode=%s and sslrootcert, a certificate of another authority is refused',
  async (mode) => {
    await expectRefused(urlOf('127.0.0.1', `?sslmode=${mode}&sslrootcert=${file('other.crt')}`), /certificate/)
  },
)

test('with sslmode=verify-full alone, a certificate of nobody whom Node knows is refused', async () => {
  await expectRefused(urlOf('127.0.0.1', '?sslmode=verify-full'), /certificate/)
})

async function expectRefused(url: string, message: RegExp): Promise<void> {
  const sql = connect(url, { max: 1, applicationName: 'ringback tests' })
  await expect(sql`select 1`).rejects.toThrow(message)
  await sql.end({ timeout: 1 })
  await expect(migrateQueue({ kind: 'postgres', url })).rejects.toThrow(message)
}

test('IPv6 and Unix sockets reach events and queue', async () => {
  expect(await useOf(urlOf('[::1]'))).toEqual({ isEncrypted: false, address: '::1' })
  expect(await useOf(urlOf('', `?host=${folder}`))).toEqual({ isEncrypted: false, address: null })
  expect(await useOf(urlOf(encodeURIComponent(folder)))).toEqual({ isEncrypted: false, address: null })
})

test('of several servers the first that answers is taken', async () => {
  const sql = connect(
    `postgres://ringback:ringback@127.0.0.1:1,[::1]:${server.port}/ringback?target_session_attrs=primary`,
    { max: 1, applicationName: 'ringback tests' },
  )
  expect(await sql`select host(inet_server_addr()) as address`).toEqual([{ address: '::1' }])
  await sql.end()
})

test('of several servers one that is silent is passed over', async () => {
  await using silent = await proxyTo(server.url)
  silent.freeze()
  const { port } = new URL(silent.url)
  const sql = connect(`postgres://ringback:ringback@127.0.0.1:${port},127.0.0.1:${server.port}/ringback`, {
    max: 1,
    applicationName: 'ringback tests',
  })
  expect(await sql`select 1 as n`).toEqual([{ n: 1 }])
  await sql.end()
})

test('while none of several servers is what is asked for a query is rejected, and tries each of them once', async () => {
  const hosts = `127.0.0.1:${server.port},[::1]:${server.port}`
  const sql = connect(`postgres://ringback:ringback@${hosts}/ringback?target_session_attrs=standby`, {
    max: 1,
    applicationName: 'ringback tests',
  })
  await expect(sql`select 1`).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' })
  await sql.end()
})

test('of several servers, the first query of a connection is rejected if that breaks', async () => {
  await using way = await proxyTo(server.url)
  const { host } = new URL(way.url)
  const options = { max: 1, applicationName: 'ringback tests' }
  const sql = connect(`postgres://ringback:ringback@${host},${host}/ringback`, options)
  const admin = connect(server.url, options)
  const query = expect(sql`select pg_sleep(20)`.execute()).rejects.toThrow('ECONNRESET')
  await eventually(async () =>
    expect(await admin`select from pg_stat_activity where wait_event = 'PgSleep'`).toHaveLength(1),
  )
  way.reset()
  await query
  expect(await sql`select 1 as n`).toEqual([{ n: 1 }])
  await Promise.all([sql.end(), admin.end()])
})

test('a role that may not make the schema of the queue is told what it needs', async () => {
  const sql = connect(server.url, { max: 1, applicationName: 'ringback tests' })
  await sql`create role limited login password 'limited'`
  await sql`create database limited`
  await sql.end()
  const url = urlOf('127.0.0.1').replace(/ringback$/, 'limited')
  const admin = connect(url, { max: 1, applicationName: 'ringback tests' })
  await admin`grant create on schema public to limited`
  await admin.end()
  const { code, output } = await runCli(
    { DATABASE_URL: url.replace('ringback:ringback', 'limited:limited') },
    'migrate',
  )
  expect(output).toMatch(/refuses: permission denied for database limited; to migrate, the role needs CREATE/)
  expect(code).toBe(1)
})
