import { randomUUIDv7 } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import type { QueuedCallback } from './callback.ts'
import { createMatch, letsAlertsThrough, matcher, PROOFS } from './filter.ts'
import type { Filter, RoutedEvent } from './filter.ts'

const event = { source: 'voximplant', accountId: '1', type: 'sms_inbound', verifiedBy: 'id' } as const

test.each<[Filter, boolean]>([
  [{}, true],
  [{ source: 'voximplant' }, true],
  [{ source: 'vobiz' }, false],
  [{ type: 'sms_*' }, true],
  [{ type: '*inbound' }, true],
  [{ type: '*' }, true],
  [{ type: 'sms' }, false],
  [{ type: 'sms.inbound' }, false],
  [{ type: ['min_balance', 'sms_*'] }, true],
  [{ type: [] }, false],
  [{ account: ['1', '2'] }, true],
  [{ source: 'voximplant', type: 'sms_*', account: '2' }, false],
  [{ verifiedBy: 'id' }, true],
  [{ verifiedBy: 'body' }, false],
  [{ verifiedBy: ['body', 'id'] }, true],
  [{ verifiedBy: { atLeast: 'id' } }, true],
  [{ verifiedBy: { atLeast: 'secret' } }, true],
  [{ verifiedBy: { atLeast: 'url' } }, false],
])('%j concerns the event: %s', (filter, expected) => {
  expect(matcher(filter)(event)).toBe(expected)
})

test.each([
  ['a*b*c', 'abc', true],
  ['a*b*c', 'a--b--c', true],
  ['a*b*c', 'acb', false],
  ['ab*ba', 'aba', false],
  ['*a*a', 'a', false],
  ['*a*a*', 'aa', true],
  ['*a*a*', 'a', false],
  ['a**b', 'ab', true],
  ['**', '', true],
])('%s of %s: %s', (type, given, matches) => {
  expect(matcher({ type })({ ...event, type: given })).toBe(matches)
})

test('a type that its sender made up takes no time to compare, whatever the pattern', () => {
  const matches = matcher({ type: '*.*.*.*.*.*.failed' })
  const startedAt = performance.now()
  for (let count = 0; count < 1000; count++) expect(matches({ ...event, type: '.'.repeat(255) })).toBe(false)
  expect(performance.now() - startedAt).toBeLessThan(5000)
})

test('a pattern means its characters: only * is special', () => {
  expect(matcher({ type: 'a.c*' })({ ...event, type: 'abc' })).toBe(false)
  expect(matcher({ type: 'a.c*' })({ ...event, type: 'a.c\nd' })).toBe(true)
})

test('atLeast takes its own proof and every stronger one, and no weaker one', () => {
  expect(
    PROOFS.map((atLeast) =>
      PROOFS.filter((verifiedBy) => matcher({ verifiedBy: { atLeast } })({ ...event, verifiedBy })),
    ),
  ).toEqual([
    ['body'],
    ['body', 'url'],
    ['body', 'url', 'id'],
    ['body', 'url', 'id', 'secret'],
    ['body', 'url', 'id', 'secret', 'none'],
  ])
})

test.each<[Filter, boolean]>([
  [{}, false],
  [{ source: '*' }, false],
  [{ source: 'ringback*' }, false],
  [{ type: 'alert.*' }, false],
  [{ source: 'ringback' }, true],
  [{ source: ['voximplant', 'ringback'] }, true],
  [{ source: ['ringback'], type: 'sms' }, false],
])("Ringback's own events concern only who names their source: %j, %s", (filter, expected) => {
  expect(matcher(filter)({ ...event, source: 'ringback', type: 'alert.raised' })).toBe(expected)
})

test.each<[Filter, boolean]>([
  [{ source: 'ringback' }, true],
  [{ source: ['voximplant', 'ringback'], type: '*.resolved' }, true],
  [{ source: 'ringback', type: 'alert.reminded' }, true],
  [{ source: 'ringback', type: 'sms_*' }, false],
  [{ type: 'alert.*' }, false],
  [{}, false],
])('whether alerts get to a handler can be told without one: %j, %s', (filter, expected) => {
  expect(letsAlertsThrough(filter)).toBe(expected)
})

/** A callback whose own bytes are `raw`. */
function callbackOf(raw: string, more: Partial<QueuedCallback> = {}): QueuedCallback {
  return {
    ...event,
    id: randomUUIDv7(),
    callbackId: '7',
    occurredAt: '2026-01-31T12:00:00.000Z',
    method: 'POST',
    url: '/callbacks/voximplant',
    headers: {},
    raw: Buffer.from(raw).toString('base64'),
    ...more,
  }
}

function throwing(): never {
  throw new Error('not even this')
}

const neverFails = () => {
  throw new Error('no "when" fails here')
}

function isMatched(on: Filter, callback: QueuedCallback): boolean {
  return createMatch([{ name: 'only', on }], neverFails)(callback).length === 1
}

const payload = JSON.stringify({
  to: '+4930123456',
  count: 7,
  price: '0.50',
  urgent: true,
  note: null,
  sms: { parts: [{ text: 'Hello you' }, { text: 'there' }], tags: ['vip', 7] },
}).replace('}', ', "big": 9007199254740993}')

describe('fields of the payload', () => {
  test.each<[string, NonNullable<Filter['fields']>[string], boolean]>([
    ['to', '+4930123456', true],
    ['to', '+4930', false],
    ['to', ['x', '+4930123456'], true],
    ['to', [], false],
    ['to', { startsWith: '+49' }, true],
    ['to', { startsWith: '49' }, false],
    ['to', { endsWith: '456' }, true],
    ['to', { endsWith: '45' }, false],
    ['to', { contains: '301' }, true],
    ['to', { contains: '999' }, false],
    ['to', { startsWith: '+49', not: ['+4930123456'] }, false],
    ['to', { gt: 1 }, false], // "+49..." is a telephone number, not a quantity
    ['count', 7, true],
    ['count', '7', true],
    ['count', 8, false],
    ['count', { gt: 6, lte: 7 }, true],
    ['count', { gt: 7 }, false],
    ['count', { gte: 7, lt: 7 }, false],
    ['count', { startsWith: '7' }, true],
    ['price', 0.5, true],
    ['price', '0.5', false],
    ['price', { lt: 1 }, true],
    ['price', { not: 0.5 }, false],
    ['urgent', true, true],
    ['urgent', 'true', true],
    ['urgent', false, false],
    ['urgent', { gt: 0 }, false],
    ['note', null, true],
    ['note', { exists: true }, true],
    ['note', 'null', false],
    ['note', { lt: 1 }, false],
    ['missing', null, false],
    ['missing', { exists: false }, true],
    ['missing', { exists: true }, false],
    ['missing', { not: 'x' }, true],
    ['missing', { not: 'x', exists: true }, false],
    ['missing', { lt: 1 }, false],
    ['missing.deep.down', { exists: false }, true],
    ['to.length', { exists: true }, false],
    ['constructor', { exists: true }, false],
    ['__proto__', { exists: true }, false],
    ['sms.parts.0.text', { contains: 'you' }, true],
    ['sms.parts.1.text', 'there', true],
    ['sms.parts.2.text', { exists: true }, false],
    ['sms.tags', { contains: 'vip' }, true],
    ['sms.tags', { contains: '7' }, true],
    ['sms.tags', { contains: 'vi' }, false],
    ['sms', 'x', false],
    ['sms', { not: 'x' }, true],
    ['sms.parts.0.big', '9007199254740993', true],
    ['sms.parts.0.big', '9007199254740992', false],
    ['sms.parts.0.big', { gt: 9_007_199_254_740_991 }, true],
  ])('%s: %j matches: %s', (path, condition, expected) => {
    expect(isMatched({ fields: { [path]: condition } }, callbackOf(payload))).toBe(expected)
  })

  test('all of them must match', () => {
    const fields = { count: 7, to: { startsWith: '+49' } }
    expect(isMatched({ fields }, callbackOf(payload))).toBe(true)
    expect(isMatched({ fields: { ...fields, urgent: false } }, callbackOf(payload))).toBe(false)
  })

  test('are those of the stored payload where that is not the bytes as they came', () => {
    const callback = callbackOf('to=x&count=7', { payload: '{"to":"x","count":"7"}' })
    expect(isMatched({ fields: { to: 'x', count: { gte: 7 } } }, callback)).toBe(true)
  })

  test('an id of any length is equal to its own text, and to no other', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n }), fc.bigInt({ min: -2n, max: 2n }), (id, offset) => {
        const callback = callbackOf(`{"id":${id}}`)
        expect(isMatched({ fields: { id: String(id + offset) } }, callback)).toBe(offset === 0n)
      }),
    )
  })

  test('"not" is the opposite, whatever the payload', () => {
    const scalar = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null))
    fc.assert(
      fc.property(fc.json(), fc.oneof(scalar, fc.array(scalar)), fc.string({ minLength: 1 }), (json, value, path) => {
        const callback = callbackOf(`{"a":${json}}`)
        for (const at of ['a', `a.${path}`]) {
          expect(isMatched({ fields: { [at]: { not: value } } }, callback)).toBe(
            !isMatched({ fields: { [at]: value } }, callback),
          )
        }
      }),
    )
  })

  test('a payload that is no JSON has no fields, and breaks nothing', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        fc.pre(!isJson(text))
        expect(isMatched({ fields: { a: { exists: true } } }, callbackOf(text))).toBe(false)
      }),
    )
  })
})

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe('when', () => {
  test('sees the event as a handler would, and decides', () => {
    const seen: RoutedEvent[] = []
    const when = (routed: RoutedEvent) => {
      seen.push(routed)
      return (routed.payload as { count: number }).count > 6
    }
    const callback = callbackOf(payload, { callId: 'call-1' })
    expect(isMatched({ when }, callback)).toBe(true)
    expect(isMatched({ when }, callbackOf('{"count":6}'))).toBe(false)
    expect(seen[0]).toMatchObject({
      id: callback.id,
      source: 'voximplant',
      accountId: '1',
      callbackId: '7',
      type: 'sms_inbound',
      callId: 'call-1',
      verifiedBy: 'id',
      occurredAt: new Date('2026-01-31T12:00:00Z'),
    })
    expect(Math.abs(seen[0]!.receivedAt.getTime() - Date.now())).toBeLessThan(60_000)
  })

  test('that throws, or answers later, lets the event match and is reported: no delivery is lost', () => {
    const failures: string[] = []
    const later = (() => Promise.reject(new Error('later'))) as unknown as () => boolean
    const broken = () => {
      throw new Error('broken')
    }
    const match = createMatch(
      [
        { name: 'broken', on: { when: broken } },
        { name: 'later', on: { when: later } },
        { name: 'other-type', on: { type: 'x', when: broken } },
        { name: 'other-field', on: { fields: { a: 1 }, when: broken } },
      ],
      ({ handler, error }) => failures.push(`${handler}: ${error}`),
    )
    const callback = callbackOf('{"a":2}')
    expect(match(callback)).toEqual([
      [callback.id, 'broken'],
      [callback.id, 'later'],
    ])
    expect(failures).toEqual(['broken: broken', 'later: "when" returned a promise; it must answer at once'])
  })

  test.each([
    ['what is no error and no text', Object.create(null), '[Object: null prototype] {}'],
    ['a message that is no text', Object.assign(new Error(), { message: { a: 1 } }), '{ a: 1 }'],
    [
      'a message that throws',
      Object.defineProperty(new Error(), 'message', { get: throwing }),
      'a value that cannot be shown',
    ],
  ])('that throws %s hinders no event from being stored', (_name, thrown, message) => {
    const failures: string[] = []
    const when = () => {
      throw thrown
    }
    const match = createMatch([{ name: 'odd', on: { when } }], ({ error }) => failures.push(error))
    expect(match(callbackOf('{}'))).toHaveLength(1)
    expect(failures).toEqual([message])
  })
})

test('the payload is parsed once, and only if a handler whose other conditions hold asks for it', () => {
  const callback = callbackOf(payload)
  const on = { fields: { count: 7 } }
  using parse = vi.spyOn(JSON, 'parse')
  const matched = createMatch(
    [
      { name: 'a', on: {} },
      { name: 'b', on: { ...on, type: 'other' } },
    ],
    neverFails,
  )(callback)
  expect(matched).toEqual([[callback.id, 'a']])
  expect(parse).not.toHaveBeenCalled()
  createMatch(
    [
      { name: 'a', on },
      { name: 'b', on },
      { name: 'c', on: { when: () => true } },
    ],
    neverFails,
  )(callback)
  expect(parse).toHaveBeenCalledOnce()
})
