import { expect, test } from 'vitest'
import { z } from 'zod'
import { parseEnvironment } from './environment.ts'

test('all problems of the environment are reported together, and without the values', () => {
  const schema = z.object({ PORT: z.coerce.number().int(), LEVEL: z.enum(['a', 'b']), URL: z.string() })
  expect(() => parseEnvironment(schema, { PORT: 'hush', LEVEL: 'hush' })).toThrow(/PORT[^]*LEVEL[^]*URL/)
  expect(() => parseEnvironment(schema, { PORT: 'hush', LEVEL: 'hush' })).not.toThrow(/hush/)
  expect(() => parseEnvironment(schema, { PORT: 'hush' })).toThrow(
    /PORT must be a number\n.*LEVEL is not set\n.*URL is not set$/,
  )
})
