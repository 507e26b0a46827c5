import { Agent, request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { demoCredentials, signCallbackId } from '@ringback/core/providers/voximplant'
import type { Random } from './random.ts'

// Plays the provider. It sends on a fixed schedule, whatever becomes of earlier requests, so that a stall hits every request
// that falls into it, and not just one for each connection. What was not answered 200 is sent again.

/** What is known of one callback. */
export interface SentCallback {
  type: string
  /** When it was first answered 200, in milliseconds since 1970. */
  acceptedAt?: number
  /** How many answers 200 it got: one more than the duplicates that must be counted. */
  answers200: number
}

/** Counts of the requests and their answers. */
export interface LoadCounts {
  /** Attempts: each one counts. */
  requests: number
  answered200: number
  /** Other answers by their status. */
  refused: Record<string, number>
  /** Attempts without an answer within 3 s. */
  timeouts: number
  /** Attempts whose connection failed. */
  connectionErrors: number
  /** The longest stretch in which nothing was answered 200 while the schedule ran. */
  longestRefusalMs: number
  /** The longest time from when a request was due to its answer, whatever that was. */
  slowestAnswerMs: number
}

/** A load that runs. */
export interface Load {
  counts: LoadCounts
  /** By callback_id. */
  callbacks: ReadonlyMap<string, SentCallback>
  /** Sends nothing new. Resolves when everything has been answered 200, or nothing was for `patienceMs`. */
  finish: (patienceMs: number) => Promise<void>
}

export interface LoadOptions {
  port: number
  /** Requests a second, not counting repetitions. */
  rate: number
  random: Random
}

/** How long Vobiz waits for an answer; others wait less. */
const CLIENT_TIMEOUT_MS = 3000
const MAX_CALLBACKS_PER_REQUEST = 10
/** The share of requests that are sent again although they were answered 200, soon after, as some providers do. */
const REPEATED_SHARE = 0.1
/** The share of callbacks that the handler acts on. */
const HANDLED_SHARE = 0.2
/** The type that faults.config.ts has a handler for. */
export const HANDLED_TYPE = 'min_balance'
const FIRST_RETRY_MS = 500
const MAX_RETRY_MS = 4000
const TICK_MS = 5

interface CallbackRequest {
  body: string
  callbacks: SentCallback[]
  /** After how long it is sent again although it was answered 200; undefined: never. */
  repeatAfterMs: number | undefined
}

type Answer = number | 'timeout' | 'connection'

/** Starts the load at once. */
export function startLoad({ port, rate, random }: LoadOptions): Load {
  const agent = new Agent({ keepAlive: true })
  const callbacks = new Map<string, SentCallback>()
  const counts: LoadCounts = {
    requests: 0,
    answered200: 0,
    refused: {},
    timeouts: 0,
    connectionErrors: 0,
    longestRefusalMs: 0,
    slowestAnswerMs: 0,
  }
  let isOver = false
  let isGivenUp = false
  let last200At = performance.now()

  function makeRequest(): CallbackRequest {
    const count = Math.floor(random.between(1, MAX_CALLBACKS_PER_REQUEST + 1))
    const made = Array.from({ length: count }, () => {
      const id = String(callbacks.size + 1)
      const callback: SentCallback = {
        type: random.chance(HANDLED_SHARE) ? HANDLED_TYPE : 'sms_inbound',
        answers200: 0,
      }
      callbacks.set(id, callback)
      return { id, callback }
    })
    return {
      body: JSON.stringify({ callbacks: made.map(({ id, callback }) => signed(id, callback.type)) }),
      callbacks: made.map(({ callback }) => callback),
      repeatAfterMs: random.chance(REPEATED_SHARE) ? random.between(0, 1000) : undefined,
    }
  }

  function countAnswer(answer: Answer, { callbacks: sent }: CallbackRequest, dueAt: number): void {
    const now = performance.now()
    if (answer === 'timeout') counts.timeouts += 1
    else if (answer === 'connection') counts.connectionErrors += 1
    else counts.slowestAnswerMs = Math.max(counts.slowestAnswerMs, now - dueAt)
    if (answer === 200) {
      counts.answered200 += 1
      noteRefusal(now)
      last200At = now
      for (const callback of sent) {
        callback.acceptedAt ??= Date.now()
        callback.answers200 += 1
      }
    } else if (typeof answer === 'number') counts.refused[answer] = (counts.refused[answer] ?? 0) + 1
  }

  function noteRefusal(now: number): void {
    if (!isOver) counts.longestRefusalMs = Math.max(counts.longestRefusalMs, now - last200At)
  }

  async function attempt(request: CallbackRequest, dueAt: number): Promise<boolean> {
    counts.requests += 1
    const answer = await post(agent, port, request.body)
    countAnswer(answer, request, dueAt)
    return answer === 200
  }

  async function untilAccepted(request: CallbackRequest, firstDueAt: number): Promise<void> {
    let dueAt = firstDueAt
    for (let waitMs = FIRST_RETRY_MS; !(await attempt(request, dueAt)); waitMs = Math.min(waitMs * 2, MAX_RETRY_MS)) {
      await sleep(waitMs)
      if (isGivenUp) break
      dueAt = performance.now()
    }
  }

  async function send(request: CallbackRequest, dueAt: number): Promise<void> {
    await untilAccepted(request, dueAt)
    if (request.repeatAfterMs === undefined || isGivenUp) return
    await sleep(request.repeatAfterMs)
    await untilAccepted(request, performance.now())
  }

  const startedAt = performance.now()
  let scheduled = 0
  const running = new Set<Promise<void>>()
  const timer = setInterval(() => {
    for (const now = performance.now(); ; scheduled++) {
      const dueAt = startedAt + (scheduled * 1000) / rate
      if (dueAt > now) return
      const sending = send(makeRequest(), dueAt).finally(() => running.delete(sending))
      running.add(sending)
    }
  }, TICK_MS)

  return {
    counts,
    callbacks,
    async finish(patienceMs) {
      clearInterval(timer)
      noteRefusal(performance.now())
      isOver = true
      let seen = counts.answered200
      let deadline = performance.now() + patienceMs
      while (running.size > 0) {
        if (counts.answered200 > seen) deadline = performance.now() + patienceMs
        if (performance.now() > deadline) isGivenUp = true
        seen = counts.answered200
        await sleep(50)
      }
      agent.destroy()
    },
  }
}

function signed(id: string, type: string): object {
  const hash = signCallbackId(demoCredentials, id)
  return { callback_id: Number(id), type, account_id: Number(demoCredentials.accountId), hash, [type]: { text: id } }
}

/** Posts one request. Never rejects. */
function post(agent: Agent, port: number, body: string): Promise<Answer> {
  return new Promise((resolve) => {
    const timeout = setTimeout(() => {
      resolve('timeout')
      request.destroy()
    }, CLIENT_TIMEOUT_MS)
    const end = (answer: Answer) => {
      clearTimeout(timeout)
      resolve(answer)
    }
    const request = httpRequest(
      {
        agent,
        host: '127.0.0.1',
        port,
        path: '/callbacks/voximplant',
        method: 'POST',
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      },
      (response) => {
        response.resume()
        response.on('end', () => end(response.statusCode!))
        response.on('error', () => end('connection'))
      },
    )
    request.on('error', () => end('connection'))
    request.end(body)
  })
}
