import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { SMTPServer } from 'smtp-server'
import type { SMTPServerOptions } from 'smtp-server'
import { makeCertificate } from './certificate.ts'

/** A mail as the server got it. */
export interface ReceivedMail {
  from: string
  to: string[]
  user: string | undefined
  isEncrypted: boolean
  /** Headers and body. */
  content: string
}

export interface MailServer extends AsyncDisposable {
  port: number
  mails: ReceivedMail[]
  /** Users whose passwords were sent, right or wrong. */
  logins: string[]
  /** How many connections were opened, and how many are open now. */
  connections: { opened: number; open: number }
}

export interface MailServerOptions extends SMTPServerOptions {
  /** The status with which a recipient is refused; undefined accepts it. */
  refuseRecipient?: (address: string) => number | undefined
  /** The status with which the mail of that number, from 1 on, is refused; undefined accepts it. */
  refuseMail?: (number: number) => number | undefined
}

export const mailUser = { user: 'ringback', password: 'p@ss:word' }

/** Starts a mail server that requires TLS and the password of {@link mailUser}, unless `options` say otherwise. */
export async function startMailServer({
  refuseRecipient = () => undefined,
  refuseMail = () => undefined,
  ...options
}: MailServerOptions = {}): Promise<MailServer> {
  const mails: ReceivedMail[] = []
  const logins: string[] = []
  const connections = { opened: 0, open: 0 }
  let mailsSent = 0
  const server = new SMTPServer({
    ...localCertificate(),
    onConnect(_session, done) {
      connections.opened += 1
      connections.open += 1
      done()
    },
    onClose: () => void (connections.open -= 1),
    onAuth({ username = '', password }, _session, done) {
      logins.push(username)
      const isRight = username === mailUser.user && password === mailUser.password
      if (isRight) done(null, { user: username })
      else done(refusal(535))
    },
    onRcptTo: ({ address }, _session, done) => done(refusal(refuseRecipient(address))),
    async onData(stream, { envelope, user, secure }, done) {
      const content = await text(stream)
      const from = envelope.mailFrom === false ? '' : envelope.mailFrom.address
      const to = envelope.rcptTo.map(({ address }) => address)
      mails.push({ from, to, user: user as string | undefined, isEncrypted: secure, content })
      done(refusal(refuseMail((mailsSent += 1))))
    },
    ...options,
  })
  server.on('error', () => {}) // connections that a client gives up
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  const { port } = server.server.address() as AddressInfo
  return {
    port,
    mails,
    logins,
    connections,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(resolve)),
  }
}

function refusal(responseCode: number | undefined): Error | null {
  return responseCode === undefined ? null : Object.assign(new Error('refused by the test'), { responseCode })
}

let certificate: ReturnType<typeof makeCertificate> | undefined

/** The mail server's own certificate. */
export function localCertificate(): ReturnType<typeof makeCertificate> {
  certificate ??= makeCertificate('127.0.0.1')
  return certificate
}
