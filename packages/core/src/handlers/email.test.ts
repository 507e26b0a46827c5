import { expect, test } from 'vitest'
import { actionOf } from '../../test/support/action-of.ts'
import { env } from '../config.ts'
import { email } from './email.ts'
import type { EmailAction } from './email.ts'

const mail = { smtpUrl: 'smtp://mail.example.com', from: 'alerts@example.com', to: 'team@example.com' }

function smtpOf(smtpUrl: string, more: { requireTls?: boolean } = {}) {
  return (actionOf(email({ ...mail, smtpUrl, ...more })) as EmailAction).smtp
}

test.each([
  ['smtp://mail.example.com', { host: 'mail.example.com', port: 587, credentials: undefined, tls: 'required' }],
  ['smtps://mail.example.com', { port: 465, tls: 'implicit' }],
  [
    'smtps://me%40example.com:p%3Aw%2F@mail.example.com:2465',
    { port: 2465, credentials: { user: 'me@example.com', password: 'p:w/' } },
  ],
  ['smtp://[::1]:25', { host: '::1', port: 25 }],
])('reads %s', (smtpUrl, expected) => {
  expect(smtpOf(smtpUrl)).toMatchObject(expected)
})

test.each(['http://x.example.com', 'smtp://', 'mail.example.com', 'smtp://x/path', 'smtps://u:%@x'])(
  'refuses %s as a mail server, without showing it',
  (smtpUrl) => {
    expect(() => smtpOf(smtpUrl)).toThrow(/notify: smtpUrl must be smtps:/)
  },
)

test('no query can switch off the check of certificates', () => {
  expect(() => smtpOf('smtps://mail.example.com?tls.rejectUnauthorized=false')).toThrow('smtpUrl must be')
})

test('sends no password to a server that may offer no TLS', () => {
  expect(smtpOf('smtp://relay.example.com:25', { requireTls: false }).tls).toBe('offered')
  expect(smtpOf('smtp://me:secret@127.0.0.1:25', { requireTls: false }).tls).toBe('offered')
  expect(() => smtpOf('smtp://me:secret@relay.example.com', { requireTls: false })).toThrow('in the open')
})

test('takes addresses from the environment, and none with a line end', () => {
  const options = { ...mail, smtpUrl: env('SMTP_URL'), to: [env('FIRST'), 'Second <second@example.com>'] }
  const environment = { SMTP_URL: 'smtps://mail.example.com', FIRST: 'first@example.com' }
  expect(actionOf(email(options), environment)).toMatchObject({
    to: ['first@example.com', 'Second <second@example.com>'],
  })
  expect(() => actionOf(email({ ...mail, to: 'a@example.com\r\nBcc: b@example.com' }))).toThrow('mail addresses')
  expect(() => actionOf(email({ ...mail, to: [] }))).toThrow('nobody')
  expect(() => actionOf(email(options))).toThrow(/SMTP_URL is not set/)
})
