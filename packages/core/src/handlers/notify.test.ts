import { describe, expect, test } from 'vitest'
import { actionOf } from '../../test/support/action-of.ts'
import { defineConfig, env, resolveConfig } from '../config.ts'
import { discord, pagerduty, slack, teams } from './notify.ts'

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
