import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import type { GroupPart } from '@ringback/core/callback'
import { createLogger } from '@ringback/core/log'
import { seededRandom } from '../../../packages/core/test/support/random.ts'
import { everySource } from '../../../test/support/every-source.ts'
import { genuineRequest, mutilated, pick } from '../../../test/support/hostile-requests.ts'
import { createApp } from './app.ts'
import { createBodyReader } from './read-body.ts'

const REQUESTS = 25_000
/** How many genuine requests of each source are mutilated: samples differ, and one alone leads to less of the code. */
const GENUINE = 5
const EXPECTED = new Set([200, 400, 401, 404, 405, 413])

test(`${REQUESTS} hostile requests to every provider and scheme: no crash, no 5xx, no memory lost`, async () => {
  const config = everySource([false, true])
  const names = [...config.sources.keys()]
  let parts: GroupPart[] = []
  const errors: unknown[] = []
  const app = createApp({
    ...config,
    enqueue: async (enqueued) => void (parts = enqueued),
    countDropped: () => {},
    inTurn: (_bodyBytes, work) => work(),
    mayQuarantine: () => true,
    readBody: createBodyReader({ maxBytes: 1_000_000, maxTotalBytes: 10_000_000 }),
    rootSource: undefined,
    ready: async () => true,
    now: () => new Date(),
    onAnswered: () => {},
    log: Object.assign(createLogger('test', 'silent'), { error: (fields: unknown) => errors.push(fields) }),
  })
  const random = seededRandom(1)
  const statuses = new Map<number, number>()
  const pool = Array.from({ length: GENUINE }, () => names.map((name) => genuineRequest(config, name, random))).flat()

  async function send(count: number): Promise<void> {
    for (let index = 0; index < count; index++) {
      const { method, url, headers, body } = mutilated(pick(pool, random), random)
      const init = { method, headers, ...(method !== 'GET' && { body: new Uint8Array(body) }) }
      const { status } = await app.request(url, init)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      for (const { json } of parts) JSON.parse(json)
      parts = []
    }
  }

  await send(REQUESTS / 5)
  const before = usedHeap()
  await send((REQUESTS * 4) / 5)
  expect(usedHeap() - before).toBeLessThan(3 * 2 ** 20)
  expect(errors).toEqual([])
  expect([...statuses.keys()].filter((status) => !EXPECTED.has(status))).toEqual([])
  // All of these occur, so hostile requests get as far as they can.
  for (const status of [200, 400, 401, 405]) expect(statuses.get(status)).toBeGreaterThan(REQUESTS / 1000)
}, 120_000)

/** The heap in use after a garbage collection, in bytes. */
function usedHeap(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  return process.memoryUsage().heapUsed
}
