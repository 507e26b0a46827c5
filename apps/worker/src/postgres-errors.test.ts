import { expect, test } from 'vitest'
import { mayBeTheData, verdictOn } from './postgres-errors.ts'

const withCode = (code: unknown) => Object.assign(new Error('an error'), { code })

test.each(['22P02', '22P05', '22003', '23514', '23505', '54000', '54001'])(
  '%s is a refusal of the data, and goes to quarantine',
  (code) => expect(verdictOn(withCode(code))).toBe('refused'),
)

test.each([
  ['57P01', 'stopped'],
  ['57P02', 'crashed'],
  ['57P03', 'starting'],
  ['57P05', 'idle'],
  ['53100', 'disk full'],
  ['53200', 'out of memory'],
  ['53300', 'out of connections'],
  ['58030', 'disk error'],
  ['58P01', 'file missing'],
  ['25006', 'read-only'],
  ['25P03', 'idle in a transaction'],
  ['08006', 'connection lost'],
  ['28P01', 'wrong password'],
  ['3D000', 'no such database'],
  ['ECONNREFUSED', 'not there'],
  ['EPIPE', 'gone in the middle'],
  ['EAI_AGAIN', 'no DNS'],
  ['CONNECT_TIMEOUT', 'frozen at the start'],
  ['CONNECTION_SILENT', 'frozen'],
  ['CONNECTION_CLOSED', 'cut off'],
  ['CONNECTION_DESTROYED', 'cut off in a transaction'],
])('%s (%s) is waited out, and never taken for a refusal', (code) => {
  expect(verdictOn(withCode(code))).toBe('down')
  expect(mayBeTheData(withCode(code))).toBe(false)
})

test.each(['40001', '40P01', '55P03', 'XX000', 'XX001', 'XX002', '42501', '42P01', '42883'])(
  '%s lets other groups go first, and never goes to quarantine',
  (code) => {
    expect(verdictOn(withCode(code))).toBe('stuck')
    expect(mayBeTheData(withCode(code))).toBe(false)
  },
)

test.each(['57014', 'P0001', '21000', '0A000'])('%s may be the fault of one callback', (code) => {
  expect(verdictOn(withCode(code))).toBe('stuck')
  expect(mayBeTheData(withCode(code))).toBe(true)
})

test('a mistake of this program lets other groups go first', () => {
  expect(verdictOn(new SyntaxError('Unexpected token'))).toBe('stuck')
  expect(mayBeTheData(new SyntaxError('Unexpected token'))).toBe(false)
})
