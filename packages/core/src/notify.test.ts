import { describe, expect, test } from 'vitest'
import { defineConfig, env, resolveConfig } from './config.ts'
import type { HandlerDefinition } from './config.ts'
import { discord, email, pagerduty, queue, slack, teams } from './handlers.ts'
import type { EmailAction } from './handlers.ts'

function actionOf(run: HandlerDefinition['run'], environment: Record<string, string> = {}) {
  return resolveConfig(defineConfig({ sources: {}, handlers: [{ name: 'notify', run }] }), environment).handlers[0]!.run
}

const mail = { smtpUrl: 'smtp://mail.example.com', from: 'alerts@example.com', to: 'team@example.com' }

function smtpOf(smtpUrl: string, more: { requireTls?: boolean } = {}) {
  return (actionOf(email({ ...mail, smtpUrl, ...more })) as EmailAction).smtp
}

describe('email', () => {
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
})

describe('a webhook', () => {
  test('has its URL from the environment, and a breaker', () => {
    const config = resolveConfig(
      defineConfig({ sources: {}, handlers: [{ name: 'chat', run: slack({ webhookUrl: env('SLACK_URL') }) }] }),
      { SLACK_URL: 'https://hooks.slack.com/services/T/B/x' },
    )
    expect(config.handlers[0]).toMatchObject({
      run: { kind: 'slack', url: 'https://hooks.slack.com/services/T/B/x', timeoutMs: 10_000 },
      limits: { breaker: { failureShare: 0.5 } },
    })
  })

  test('must be https, unless the destination is one of one’s own; no problem shows it', () => {
    const webhookUrl = 'http://127.0.0.1:8080/secret'
    expect(() => actionOf(teams({ webhookUrl }))).toThrow(/^((?!secret).)*webhookUrl must be a URL((?!secret).)*$/s)
    expect(actionOf(discord({ webhookUrl, allowAddresses: ['127.0.0.0/8'] }))).toMatchObject({ url: webhookUrl })
  })

  test('has no option that is misspelled', () => {
    expect(() => actionOf(slack({ webhookUrl: 'https://x.example.com', txt: 'x' } as never))).toThrow(/"txt"/)
    expect(() => actionOf(slack(undefined as never))).toThrow('notify: the options')
  })
})

test('PagerDuty is asked where its API is', () => {
  expect(actionOf(pagerduty({ routingKey: 'k' }))).toMatchObject({
    url: 'https://events.pagerduty.com/v2/enqueue',
    severity: 'error',
  })
  expect(actionOf(pagerduty({ routingKey: 'k', baseUrl: 'https://events.eu.pagerduty.com/' }))).toMatchObject({
    url: 'https://events.eu.pagerduty.com/v2/enqueue',
  })
})

test('a queue is on REDIS_URL unless another is named, and its name is one that BullMQ takes', () => {
  expect(actionOf(queue({ name: 'crm' }), { REDIS_URL: 'redis://127.0.0.1' })).toMatchObject({
    redisUrl: 'redis://127.0.0.1',
    jobOptions: {},
  })
  expect(() => actionOf(queue({ name: 'crm' }))).toThrow('REDIS_URL is not set')
  expect(() => actionOf(queue({ name: 'a:b', redisUrl: 'redis://127.0.0.1' }))).toThrow('without ":"')
  expect(() => actionOf(queue({ name: 'crm', redisUrl: 'postgres://127.0.0.1' }))).toThrow('redisUrl must have')
})
