import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { callbackBody } from './callbacks.ts'
import { startDesign } from './designs.ts'
import type { Design } from './designs.ts'
import type { Servers } from './servers.ts'
import { median, quantile } from './statistics.ts'

/** How long an answer takes if requests come one at a time. */
export interface IdleLatency {
  p50Ms: number
  p99Ms: number
}

const WARM_UP_REQUESTS = 500
const REQUESTS = 400
/** How many requests one design gets before it is the next one's turn. */
const TURN = 50
const WARM_UP_GAP_MS = 1
/** Long enough for every design to store a callback before the next one comes; otherwise it would not be idle. */
const GAP_MS = 20

/** Measures designs, by name. All run at the same time and take turns, so that each meets the machine in the same state. */
export async function measureIdle(
  resources: AsyncDisposableStack,
  servers: Servers,
  designs: readonly Design[],
): Promise<Record<string, IdleLatency>> {
  await servers.emptyRedis()
  const clients = []
  for (const design of designs) {
    const running = await startDesign(resources, servers, design)
    clients.push({ design, running, agent: new Agent({ keepAlive: true, maxSockets: 1 }), timesMs: [] as number[] })
  }

  for (let number = 0; number < WARM_UP_REQUESTS + REQUESTS; number += TURN) {
    for (const { agent, running, timesMs } of clients) {
      for (let turn = number; turn < number + TURN; turn++) {
        const timeMs = await answerTimeMs(agent, running.url, callbackBody(turn))
        if (turn >= WARM_UP_REQUESTS) timesMs.push(timeMs)
        await sleep(turn >= WARM_UP_REQUESTS ? GAP_MS : WARM_UP_GAP_MS)
      }
    }
  }

  for (const { agent, running } of clients) {
    agent.destroy()
    await running.stop()
  }
  return Object.fromEntries(
    clients.map(({ design, timesMs }) => [design.name, { p50Ms: median(timesMs), p99Ms: quantile(timesMs, 0.99) }]),
  )
}

function answerTimeMs(agent: Agent, url: string, body: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const startedAt = performance.now()
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) }
    const outgoing = request(url, { method: 'POST', agent, headers }, (response) => {
      const timeMs = performance.now() - startedAt
      response.resume().on('end', () => {
        if (response.statusCode === 200) resolve(timeMs)
        else reject(new Error(`${url} answered ${response.statusCode}`))
      })
    })
    outgoing.on('error', reject).end(body)
  })
}
