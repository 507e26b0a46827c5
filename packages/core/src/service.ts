import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Logger } from './log.ts'
import type { Registry } from './metrics.ts'
import { withTimeout } from './with-timeout.ts'

// What every long-running process of Ringback shares: shutdown, and the operator's port.

export interface Service {
  close: () => Promise<void>
}

/** A service that may say how long its closing takes at most; 15 s where it does not. */
export interface RunningService extends Service {
  closeDeadlineMs?: number
}

/** Below the 20 s that docker-compose.yml gives a container. */
const CLOSE_DEADLINE_MS = 15_000

/**
 * Within this time of the first signal, another belongs to the same request to stop: a whole process group may get one,
 * and npm and its shell pass theirs on.
 */
const ONE_REQUEST_MS = 1000

/**
 * Starts a service and closes it at the first SIGTERM, SIGINT or SIGHUP; the process then ends with 0, or with 1 if closing
 * took longer than its deadline, failed, or was cut short by a signal that came a second or more after the first. A start
 * that fails ends the process with 1 and its message. `start` gets a signal that fires when the process is to end.
 */
export async function runService(start: (stopping: AbortSignal) => Promise<RunningService>): Promise<void> {
  const stopping = new AbortController()
  const starting = start(stopping.signal)
  const close = async () => {
    stopping.abort()
    endAfter(CLOSE_DEADLINE_MS)
    // A start that was cut short has nothing to close.
    const service = await starting.catch(() => undefined)
    if (service?.closeDeadlineMs !== undefined) endAfter(service.closeDeadlineMs)
    await service?.close()
    process.exit(0)
  }
  let firstAt: number | undefined
  const onSignal = () => {
    if (firstAt !== undefined) {
      if (performance.now() - firstAt >= ONE_REQUEST_MS) process.exit(1)
      return
    }
    firstAt = performance.now()
    close().catch(fail)
  }
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, onSignal)
  await starting.catch((error: unknown) => (stopping.signal.aborted ? undefined : fail(error)))
}

let deadline: NodeJS.Timeout | undefined

/** Ends the process with 1 in `ms` milliseconds, in place of any time that was set before. */
function endAfter(ms: number): void {
  clearTimeout(deadline)
  deadline = setTimeout(() => {
    console.error(`Not closed within ${ms} ms; ending all the same`)
    process.exit(1)
  }, ms).unref()
}

/**
 * Closes a part of a service, and goes on after `ms` whether it is closed or not: a server that is down must not keep the
 * process from ending. A close that took too long or failed is logged as `close.incomplete`. Never rejects.
 */
export async function closeWithin(
  { ms, part, log }: { ms: number; part: string; log: Logger },
  close: () => Promise<unknown> | undefined,
): Promise<void> {
  try {
    await withTimeout(Promise.resolve(close()), ms, `not closed within ${ms} ms`)
  } catch (error) {
    log.warn({ part, error: (error as Error).message }, 'close.incomplete')
  }
}

function fail(error: unknown): never {
  console.error(error instanceof Error ? messages(error) : error)
  process.exit(1)
}

/** An error's message and those of its causes: what an operator needs to see, without stacks. */
function messages(error: Error): string {
  const cause = error.cause instanceof Error ? `\n  because: ${messages(error.cause)}` : ''
  return error.message + cause
}

/** The operator's port: `/livez`, `/readyz` by `ready`, and `/metrics` in Prometheus's text format. Not for the Internet. */
export async function listenForOperators(options: {
  hostname: string
  port: number
  ready: () => Promise<boolean>
  registry: Registry
  log: Logger
}): Promise<Service> {
  const server = createServer(async (request, response) => {
    const answer = (status: number, text: string) =>
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify({ status: text }))
    if (request.url === '/livez') answer(200, 'live')
    else if (request.url === '/metrics') await answerMetrics(response, options)
    else if (request.url !== '/readyz') answer(404, 'not found')
    else if (await options.ready()) answer(200, 'ready')
    else answer(503, 'not ready')
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(explainListenError(error, options.port, { host: 'OPS_HOST', port: 'OPS_PORT' }))
    })
    server.listen(options.port, options.hostname, resolve)
  })
  // The actual port: with port 0 the system has chosen one.
  const { port: ownPort } = server.address() as AddressInfo
  options.log.info({ port: ownPort }, 'operators.listening')
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const NO_ADDRESS = new Set<string | undefined>(['EADDRNOTAVAIL', 'EAI_AGAIN', 'ENOTFOUND'])

/** Says why a server cannot listen, and which variables to change. An error of another kind is returned as it is. */
export function explainListenError(
  error: NodeJS.ErrnoException,
  port: number,
  names: { host: string; port: string },
): Error {
  if (error.code === 'EADDRINUSE') {
    return new Error(`Port ${port} is taken; set ${names.port} to another`, { cause: error })
  }
  if (!NO_ADDRESS.has(error.code)) return error
  return new Error(
    `${names.host} names no address of this machine: 0.0.0.0 is all of them, and 127.0.0.1 is for itself alone`,
    { cause: error },
  )
}

async function answerMetrics(
  response: ServerResponse,
  { registry, log }: { registry: Registry; log: Logger },
): Promise<void> {
  try {
    const text = await registry.metrics()
    response.writeHead(200, { 'Content-Type': registry.contentType }).end(text)
  } catch (error) {
    log.error({ error: (error as Error).message }, 'metrics.failed')
    response.writeHead(500).end()
  }
}
