import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isObject } from './is-object.ts'
import { depthWithin, documentSlice, elementsOf, member, withoutMembers } from './json-slices.ts'

const textOf = (json: Buffer, slice: { start: number; end: number }) => json.toString('utf8', slice.start, slice.end)

/** Any JSON document, as bytes, with white space between its tokens or without. */
const documents = fc
  .tuple(fc.json({ maxDepth: 4 }), fc.constantFrom(undefined, 1, '\t'))
  .map(([json, space]) => Buffer.from(JSON.stringify(JSON.parse(json), undefined, space)))

test('the slices of an array parse to its elements, wherever it stands, and of the last one where there are several', () => {
  const lists = fc.array(fc.jsonValue(), { maxLength: 6 })
  const others = fc.array(fc.tuple(fc.constantFrom('x', 'list ', 'List'), fc.jsonValue()), { maxLength: 3 })
  fc.assert(
    fc.property(others, lists, lists, others, fc.constantFrom(undefined, 2), (before, first, last, after, space) => {
      const pairs = [...before, ['list', first], ...after, ['list', last], ...after]
      const text = pairs
        .map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value, undefined, space)}`)
        .join(' , ')
      const json = Buffer.from(` { ${text} } `)
      const found = elementsOf(json, 'list').map((slice) => JSON.parse(textOf(json, slice)))
      expect(found).toEqual((JSON.parse(json.toString()) as { list: unknown }).list)
    }),
  )
})

test('what is no array has no elements', () => {
  for (const json of [
    '{"list":{"a":[1]}}',
    '{"list":"[1]"}',
    '{"a":{"list":[1]}}',
    '{"list":[1],"list":5}',
    '[1]',
    '["list",[1]]',
    '"list"',
    '5',
  ]) {
    expect(elementsOf(Buffer.from(json), 'list')).toEqual([])
  }
})

/** Members of an object, as pairs of a key in some spelling and a value. */
const entries = fc.array(
  fc
    .constantFrom('id', 'callback_id', 'x')
    .chain((key) =>
      fc.tuple(
        fc.constantFrom(
          JSON.stringify(key),
          `"${key.replaceAll(/./g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`)}"`,
        ),
        fc.jsonValue(),
      ),
    ),
  { maxLength: 6 },
)

const objectOf = (pairs: [key: string, value: unknown][]) =>
  `{${pairs.map(([key, value]) => `${key} : ${JSON.stringify(value)}`).join(' , ')}}`

test('the slice of a key parses to what JSON.parse gives for it, repeated and escaped keys included', () => {
  fc.assert(
    fc.property(entries, (pairs) => {
      const json = Buffer.from(objectOf(pairs))
      const parsed = JSON.parse(json.toString()) as Record<string, unknown>
      const slice = member(json, documentSlice(json), 'callback_id')
      expect(slice && JSON.parse(textOf(json, slice))).toEqual(parsed.callback_id)
    }),
  )
})

test('a key is found by its letters, whatever their alphabet', () => {
  const json = Buffer.from('{"ключ":[{"é":1},{"\\u00e9":2},{"Ã©":3}]}')
  const values = elementsOf(json, 'ключ', 'é').map(
    ({ member: found }) => found && String(json.subarray(found.start, found.end)),
  )
  expect(values).toEqual(['1', '2', undefined])
})

test('the member of each element is found with it, and where elements end does not depend on that', () => {
  const elements = fc.oneof(entries.map(objectOf), fc.json())
  fc.assert(
    fc.property(fc.array(elements, { maxLength: 6 }), fc.constantFrom('', ' \n'), (texts, space) => {
      const json = Buffer.from(`{"list":[${space}${texts.join(`${space},${space}`)}${space}]}`)
      const { list } = JSON.parse(json.toString()) as { list: unknown[] }
      const found = elementsOf(json, 'list', 'callback_id')
      expect(found.map(({ start, end }) => [start, end])).toEqual(
        elementsOf(json, 'list').map(({ start, end }) => [start, end]),
      )
      expect(found.map((element) => element.member && JSON.parse(textOf(json, element.member)))).toEqual(
        list.map((value) => (isObject(value) ? value.callback_id : undefined)),
      )
    }),
  )
})

describe('removing members', () => {
  const KEYS = new Set(['a', 'secret'])

  function removed(value: unknown): unknown {
    if (Array.isArray(value)) return value.map(removed)
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value)
        .filter(([key]) => !KEYS.has(key))
        .map(([key, inner]) => [key, removed(inner)]),
    )
  }

  const values = fc.letrec((tie) => ({
    value: fc.oneof({ maxDepth: 4 }, fc.integer(), fc.string(), fc.constant(null), tie('list'), tie('object')),
    list: fc.array(tie('value'), { maxLength: 4 }),
    object: fc.dictionary(fc.constantFrom('a', 'b', 'secret', 'd'), tie('value'), {
      maxKeys: 4,
      noNullPrototype: true,
    }),
  })).object

  test('leaves valid JSON that lacks just these members, at any depth', () => {
    fc.assert(
      fc.property(values, fc.constantFrom(undefined, 2), (value, space) => {
        const json = Buffer.from(JSON.stringify(value, undefined, space))
        expect(JSON.parse(withoutMembers(json, KEYS).toString())).toEqual(removed(value))
      }),
    )
  })

  test('keeps the bytes of every number and string that stays', () => {
    const json = Buffer.from('{"a":1,"n":9007199254740993,"f":1.0,"secret":[2],"s":"\\u00e9"}')
    expect(withoutMembers(json, KEYS).toString()).toBe('{"n":9007199254740993,"f":1.0,"s":"\\u00e9"}')
  })
})

describe('depth', () => {
  test('is counted without being misled by brackets in strings', () => {
    const json = Buffer.from(String.raw`[["[[[[\"[[[", {"a]": [1]}]]`)
    expect(depthWithin(json, 4)).toBe(true)
    expect(depthWithin(json, 3)).toBe(false)
  })

  test('is that of what is nested, however much lies side by side', () => {
    const json = Buffer.from(`[${Array.from({ length: 100 }, () => '[{}]').join()}]`)
    expect(depthWithin(json, 3)).toBe(true)
    expect(depthWithin(json, 2)).toBe(false)
  })

  test('of a hundred thousand levels is refused without a deep stack', () => {
    expect(depthWithin(Buffer.from('['.repeat(100_000)), 64)).toBe(false)
  })
})

test('bytes that are no JSON end every function without an error', () => {
  const broken = fc.oneof(
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
    documents.chain((json) => fc.nat(json.length).map((end) => json.subarray(0, end))),
  )
  fc.assert(
    fc.property(broken, (json) => {
      const slice = documentSlice(json)
      elementsOf(json, 'callback_id')
      elementsOf(json, undefined, 'callback_id')
      member(json, slice, 'callback_id')
      depthWithin(json, 64)
    }),
  )
})
