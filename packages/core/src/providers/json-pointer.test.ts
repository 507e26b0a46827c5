import { expect, test } from 'vitest'
import { elementsAtPointer, parsePointer, textAtPointer } from './json-pointer.ts'
import { parseJson } from './message.ts'
import type { Json } from './message.ts'

const at = (document: string, pointer: string) =>
  textAtPointer(parseJson(Buffer.from(document)) as Json, parsePointer(pointer)!)

test.each([
  // The examples of RFC 6901, as far as they are texts or whole numbers.
  ['{"foo":["bar","baz"]}', '/foo/0', 'bar'],
  ['{"":0}', '/', '0'],
  ['{"a/b":1}', '/a~1b', '1'],
  ['{"c%d":2}', '/c%d', '2'],
  ['{"k\\"l":6}', '/k"l', '6'],
  ['{" ":7}', '/ ', '7'],
  ['{"m~n":8}', '/m~0n', '8'],
  ['{"~1":9}', '/~01', '9'],
  ['{"data":{"id":9007199254740993}}', '/data/id', '9007199254740993'],
  ['[{"id":1},{"id":18446744073709551615}]', '/1/id', '18446744073709551615'],
  ['[[1,[2,3]]]', '/0/1/1', '3'],
  ['{"ключ":12345678901234567890}', '/ключ', '12345678901234567890'],
  ['{"\\u00e9":5}', '/é', '5'],
  ['{"id":1,"id":2}', '/id', '2'],
  ['{"__proto__":{"id":3}}', '/__proto__/id', '3'],
  ['"alone"', '', 'alone'],
])('%s at %s is %s', (document, pointer, text) => {
  expect(at(document, pointer)).toBe(text)
})

test.each([
  ['{"a":1}', '/b'],
  ['{"a":1}', '/a/b'],
  ['{"a":null}', '/a'],
  ['{"a":true}', '/a'],
  ['{"a":1.5}', '/a'],
  ['{"a":1e3}', '/a'],
  ['{"a":""}', '/a'],
  ['{"a":{}}', '/a'],
  ['{"a":"text"}', '/a/length'],
  ['{"a":"text"}', '/a/0'],
  ['[1]', '/1'],
  ['[1]', '/00'],
  ['[1]', '/-'],
  ['[1]', '/-1'],
  ['[1]', '/length'],
  ['{}', '/constructor'],
  ['{}', '/__proto__'],
])('%s has no text at %s', (document, pointer) => {
  expect(at(document, pointer)).toBeUndefined()
})

test('what is no pointer is told apart', () => {
  for (const text of ['id', '/a~', '/a~2', '#/a', '$.a']) expect(parsePointer(text)).toBeUndefined()
})

test('elements of a nested array keep their bytes', () => {
  const json = parseJson(Buffer.from('{"a":{"b":[ {"n": 1.0} , [2] ]}}')) as Json
  const raws = ['{"n": 1.0}', '[2]'].map((text) => ({ raw: Buffer.from(text) }))
  expect(elementsAtPointer(json, ['a', 'b'])).toMatchObject(raws)
  expect(elementsAtPointer(json, ['a'])).toBeUndefined()
  expect(elementsAtPointer(json, ['c'])).toBeUndefined()
})
