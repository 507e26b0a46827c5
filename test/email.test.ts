import { expect, test } from 'vitest'
import { email } from '@ringback/core/handlers'
import { deliver, kept, notifying, outcomes } from './support/deliver.ts'
import { localCertificate, mailUser, startMailServer } from './support/mail-server.ts'
import type { MailServer } from './support/mail-server.ts'
import { aCallback, eventually, freshDatabase } from './support/ringback.ts'
import { startSilentServer } from './support/silent-server.ts'

const { user, password } = mailUser
const credentials = `${user}:${encodeURIComponent(password)}`
const to = ['team@example.com', 'boss@example.com']

function mailing({ port }: { port: number }, options: Partial<Parameters<typeof email>[0]> = {}) {
  const smtpUrl = `smtp://${credentials}@127.0.0.1:${port}`
  return email({ smtpUrl, from: 'Ringback <ringback@example.com>', to, ca: localCertificate().cert, ...options })
}

function idOf({ content }: MailServer['mails'][number]): string {
  return /^Message-ID: (.*)$/im.exec(content)![1]!
}

test('an event is one mail to all recipients, by STARTTLS and with the password', async () => {
  await using database = await freshDatabase()
  await using server = await startMailServer()
  const run = mailing(server, {
    subject: 'SMS: ((details.text))',
    text: 'It says ((details.text))',
    html: '<b>((details.text))</b>',
  })
  const callback = aCallback(1, { sms_inbound: { text: 'hi <i>\r\nBcc: all@example.com' } })
  await deliver(database, notifying(run), callback)
  expect(await outcomes(database)).toEqual([{ status: 'succeeded', attempts: 1, error: null, code: 250 }])
  const [mail, ...others] = server.mails
  expect(others).toEqual([])
  expect(mail).toMatchObject({ from: 'ringback@example.com', to, user, isEncrypted: true })
  expect(mail!.content).toMatch(/^Subject: SMS: hi <i> Bcc: all@example.com\r$/m)
  expect(mail!.content).toContain('<b>hi &lt;i&gt;')
  expect(mail!.content).toContain('It says hi <i>\r\n')
})

test('a mail that is refused for now is sent again, under the same Message-ID', async () => {
  await using database = await freshDatabase()
  await using server = await startMailServer({ refuseMail: (number) => (number === 1 ? 451 : undefined) })
  await deliver(database, notifying(mailing(server), { maxAttempts: 3 }), aCallback(1))
  expect(await outcomes(database)).toEqual([{ status: 'succeeded', attempts: 2, error: null, code: 250 }])
  const [delivery] = await database.sql<{ id: string }[]>`select id from deliveries`
  expect(server.mails.map(idOf)).toEqual(Array(2).fill(`<ringback.${delivery!.id}@example.com>`))
})

test('a mail that is refused for good is not sent again', async () => {
  await using database = await freshDatabase()
  await using server = await startMailServer({ refuseMail: () => 554 })
  await deliver(database, notifying(mailing(server), { maxAttempts: 3 }), aCallback(1))
  expect(await outcomes(database)).toEqual([
    { status: 'dead', attempts: 1, error: 'the mail server answered 554 to DATA', code: 554 },
  ])
})

test('one recipient who is refused is told of, and nobody gets the mail twice', async () => {
  await using database = await freshDatabase()
  const refuseRecipient = (address: string) => (address === 'boss@example.com' ? 450 : undefined)
  await using server = await startMailServer({ refuseRecipient })
  await deliver(database, notifying(mailing(server), { maxAttempts: 3 }), aCallback(1))
  expect(await outcomes(database)).toMatchObject([{ status: 'dead', attempts: 1 }])
  expect((await outcomes(database))[0]!.error).toContain('refused boss@example.com; the other')
  expect(server.mails.map((mail) => mail.to)).toEqual([['team@example.com']])
})

test('a wrong password fails, and is not kept', async () => {
  await using database = await freshDatabase()
  await using server = await startMailServer()
  const smtpUrl = `smtp://${user}:wrong-secret@127.0.0.1:${server.port}`
  await deliver(database, notifying(mailing(server, { smtpUrl })), aCallback(1))
  expect(await outcomes(database)).toMatchObject([{ status: 'dead', code: 535 }])
  expect(await kept(database)).not.toContain('wrong-secret')
})

test('a password that the server sends back is not kept, however the login spelled it', async () => {
  await using database = await freshDatabase()
  const base64 = (text: string) => Buffer.from(text).toString('base64')
  await using server = await startMailServer({
    onAuth({ username, password }, _session, done) {
      const sent = String(password)
      const commands = `AUTH PLAIN ${base64(`\0${username}\0${sent}`)}, or ${base64(sent)}`
      done(Object.assign(new Error(`nobody has ${sent}: ${commands}`), { responseCode: 535 }))
    },
  })
  await deliver(database, notifying(mailing(server)), aCallback(1))
  const [attempt] = await database.sql<{ response: string }[]>`select response from attempts`
  expect(attempt!.response).toBe('535 nobody has ***: AUTH PLAIN ***, or ***')
})

test('a server that is not trusted gets neither password nor mail', async () => {
  await using database = await freshDatabase()
  await using server = await startMailServer()
  const smtpUrl = `smtp://${credentials}@127.0.0.1:${server.port}`
  await deliver(database, notifying(email({ smtpUrl, from: 'ringback@example.com', to })), aCallback(1))
  expect(await outcomes(database)).toMatchObject([
    { status: 'dead', error: expect.stringContaining('could not be talked to (DEPTH_ZERO_SELF_SIGNED_CERT)') },
  ])
  expect(server).toMatchObject({ logins: [], mails: [] })
})

test('a server without TLS gets neither, unless it is said to be one’s own', async () => {
  await using database = await freshDatabase()
  const hidden = { hideSTARTTLS: true, disabledCommands: ['STARTTLS'], allowInsecureAuth: true, authOptional: true }
  await using server = await startMailServer(hidden)
  await deliver(database, notifying(mailing(server)), aCallback(1))
  expect(await outcomes(database)).toMatchObject([{ status: 'dead', error: expect.stringMatching(/ETLS|STARTTLS/) }])
  expect(server).toMatchObject({ logins: [], mails: [] })

  await using relayed = await freshDatabase()
  const smtpUrl = `smtp://127.0.0.1:${server.port}`
  await deliver(relayed, notifying(mailing(server, { smtpUrl, requireTls: false })), aCallback(1))
  expect(server.mails).toMatchObject([{ isEncrypted: false }])
})

test('a mail begins when it has a connection: none stands in line while its time runs', async () => {
  await using database = await freshDatabase()
  await using silent = await startSilentServer()
  const callbacks = Array.from({ length: 9 }, (_, index) => aCallback(index))
  await deliver(database, notifying(mailing(silent, { timeoutMs: 1000 })), ...callbacks)
  const [{ together } = {}] = await database.sql`
    select max(count)::integer as together
    from (
      select count(*) over (order by started_at range between current row and '0.5 seconds'::interval following) from attempts
    ) as windows`
  expect(together).toBeLessThanOrEqual(5)
})

test('a server that says nothing costs no more than the time limit', async () => {
  await using database = await freshDatabase()
  await using silent = await startSilentServer()
  await deliver(database, notifying(mailing(silent, { timeoutMs: 300 })), aCallback(1))
  const [attempt] = await database.sql<{ error: string; ms: number }[]>`select error, duration_ms as ms from attempts`
  expect(attempt!.error).toBe('not done within 300 ms')
  expect(attempt!.ms).toBeLessThan(2000)
})

test('connections are few, used again, and closed with the worker', async () => {
  await using database = await freshDatabase()
  await using server = await startMailServer()
  const callbacks = Array.from({ length: 40 }, (_, index) => aCallback(index + 1))
  await deliver(database, notifying(mailing(server)), ...callbacks)
  expect(new Set(server.mails.map(idOf)).size).toBe(40)
  expect(server.connections.opened).toBeLessThanOrEqual(5)
  await eventually(async () => expect(server.connections.open).toBe(0))
})
