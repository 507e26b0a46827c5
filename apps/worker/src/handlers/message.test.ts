import { describe, expect, test } from 'vitest'
import type { AlertNotice } from '@ringback/core/alerts'
import type { HandledEvent } from '@ringback/core/handlers'
import { anEvent } from '../../../../test/support/an-event.ts'
import { discordMessage } from './discord.ts'
import { mailOf, messageIdOf } from './email.ts'
import { pagerdutyMessage } from './pagerduty.ts'
import { slackMessage } from './slack.ts'
import { teamsMessage } from './teams.ts'

/** An event whose every text is as long and as hostile as a provider could make it. */
const hostileText = '\u0000\n\ud800😀"&<!channel>](http://x)@everyone*_'.repeat(500)
const hostile = anEvent({
  type: hostileText.slice(0, 255),
  callbackId: hostileText.slice(0, 255),
  payload: { text: hostileText },
})

const paging = { routingKey: 'key', severity: 'error' } as const

const bodies = {
  slack: (event: HandledEvent, text?: string) => JSON.stringify(slackMessage({ text }, event)),
  teams: (event: HandledEvent, text?: string) => JSON.stringify(teamsMessage({ text }, event)),
  discord: (event: HandledEvent, text?: string) => JSON.stringify(discordMessage({ text }, event)),
  pagerduty: (event: HandledEvent, text?: string) => JSON.stringify(pagerdutyMessage({ ...paging, text }, event)),
}
const services = Object.entries(bodies)

describe.each(services)('a message for %s', (_service, bodyOf) => {
  test('names the event, and holds nothing of its payload', () => {
    const body = bodyOf(anEvent())
    for (const name of ['voximplant', 'inbound', '42', '2026-11-22T05:00:00.000Z']) expect(body).toContain(name)
    expect(body).not.toContain('5550100')
  })

  test('holds what its template asks for', () => {
    expect(bodyOf(anEvent(), 'Customer: ((text))')).toContain('Customer: call me at +15550100')
  })

  test('says what an alert says', () => {
    const notice = { alert_id: 'a1', text: 'The handler crm has failed 3 times in a row.' } as AlertNotice
    const alert = anEvent({ source: 'ringback', type: 'alert.raised', payload: notice })
    expect(bodyOf(alert)).toContain('The handler crm has failed 3 times in a row.')
  })
})

test('Slack: within 4000 characters, and a value can mention nobody', () => {
  const { text } = JSON.parse(bodies.slack(hostile, '<!here> ((text))')) as { text: string }
  expect(text.length).toBeLessThanOrEqual(4000)
  expect(text).toMatch(/^<!here> /)
  expect(text).not.toContain('<!channel>')
  expect(text).toContain('Source: voximplant')
})

test('Discord: within 2000 characters, and nobody is mentioned', () => {
  const message = JSON.parse(bodies.discord(hostile, '((text))')) as { content: string }
  expect(message.content.length).toBeLessThanOrEqual(2000)
  expect(message.content).toContain('Source: voximplant')
  expect(message.content).not.toContain('](http')
  expect(message).toMatchObject({ allowed_mentions: { parse: [] } })
})

test.each(['😀', '"', '\n', '\u0000', '\u20ac', '\u20ac\n', '\ud800'])('Teams: within 28 KB of %j', (character) => {
  const text = character.repeat(20_000)
  const body = bodies.teams(anEvent({ type: text.slice(0, 255), callbackId: text.slice(0, 255) }), text)
  expect(Buffer.byteLength(body)).toBeLessThan(28 * 1024)
})

test('Teams: an adaptive card, in which a value can write no link', () => {
  const { type, attachments } = JSON.parse(bodies.teams(hostile, '((text))')) as {
    type: string
    attachments: { contentType: string; content: { type: string; body: { text: string }[] } }[]
  }
  expect(type).toBe('message')
  expect(attachments[0]).toMatchObject({
    contentType: 'application/vnd.microsoft.card.adaptive',
    content: { type: 'AdaptiveCard' },
  })
  expect(attachments[0]!.content.body[0]!.text).not.toContain('](')
})

test.each([
  ['((a))((b))', 'two values that stand together'],
  ['((a))(https://ringback.example.com)', 'a value before the text of a template'],
  ['[here]((b))', 'a value after the text of a template'],
])('Teams and Discord: no link in %j by %s', (text) => {
  const event = anEvent({ payload: { a: '[click]', b: '(http://evil.example)' } })
  for (const bodyOf of [bodies.teams, bodies.discord]) expect(bodyOf(event, text)).not.toMatch(/(?<!\\)\]\(/)
})

describe('PagerDuty', () => {
  const sent = (event: HandledEvent, text?: string) =>
    JSON.parse(bodies.pagerduty(event, text)) as { payload: { summary: string } }

  test('an event is an incident of its own, however often it is sent', () => {
    expect(sent(anEvent())).toMatchObject({ routing_key: 'key', event_action: 'trigger', dedup_key: anEvent().id })
  })

  test.each([
    ['alert.raised', 'trigger'],
    ['alert.reminded', 'trigger'],
    ['alert.resolved', 'resolve'],
  ])('%s is to %s the incident of the alert', (type, action) => {
    const payload = { alert_id: 'a1', text: 'Nothing came in.' } as AlertNotice
    expect(sent(anEvent({ source: 'ringback', type, payload }))).toMatchObject({
      event_action: action,
      dedup_key: 'a1',
    })
  })

  test.each([
    { source: 'voximplant', type: 'alert.resolved', payload: { alert_id: 'a1', text: 'x' } },
    { source: 'ringback', type: 'alert.resolved', payload: null },
  ])('%j resolves nothing', (fields) => {
    expect(sent(anEvent(fields))).toMatchObject({ event_action: 'trigger', dedup_key: anEvent().id })
  })

  test.each(['((absent))', ' ', ''])('a text that comes out empty, as of %j, still triggers an incident', (text) => {
    expect(sent(anEvent(), text).payload.summary).toBe('sms_inbound from voximplant')
  })

  test('a summary is one line of at most 1024 characters', () => {
    const { summary } = sent(hostile, '((text))').payload
    expect(summary.length).toBeLessThanOrEqual(1024)
    expect(summary).not.toMatch(/\p{Cc}/u)
  })
})

describe('a mail', () => {
  const templates = { subject: undefined, text: undefined, html: undefined }

  test('names the event where no template is given, and holds nothing of its payload', () => {
    const { subject, text, html } = mailOf(templates, anEvent())
    expect(subject).toBe('sms_inbound from voximplant')
    expect(text).toContain('Callback: 42\nTime: 2026-11-22T05:00:00.000Z')
    expect(text).not.toContain('5550100')
    expect(html).toBeUndefined()
  })

  test('has a subject of one line, whatever the payload holds', () => {
    const event = anEvent({ payload: { text: 'hello\r\nBcc: everybody@example.com\u2028x' } })
    expect(mailOf({ ...templates, subject: 'New: ((text))' }, event).subject).toBe(
      'New: hello Bcc: everybody@example.com x',
    )
  })

  test('escapes values in HTML and nowhere else', () => {
    const event = anEvent({ payload: { text: `<img src="x" onerror='y'> & co` } })
    expect(mailOf({ ...templates, text: '<((text))>', html: '<p title="((text))">' }, event)).toMatchObject({
      text: `<<img src="x" onerror='y'> & co>`,
      html: '<p title="&lt;img src=&quot;x&quot; onerror=&#39;y&#39;&gt; &amp; co">',
    })
  })

  test.each([
    ['alerts@example.com', '<ringback.key-1@example.com>'],
    ['Alerts <alerts@mail.example.com>', '<ringback.key-1@mail.example.com>'],
    ['"x@y" <odd@münchen.de>', '<ringback.key-1@ringback.invalid>'],
  ])('from %s has the id %s for every attempt', (from, id) => {
    expect(messageIdOf(from, 'key-1')).toBe(id)
  })
})
