import { createServer } from 'node:http'
import { listen } from '../support/listen.ts'

/** The endpoint that the handler calls. It remembers each run. */
export interface Receiver extends AsyncDisposable {
  url: string
  /** When each event first came, by its id; in milliseconds since 1970. */
  firstAt: ReadonlyMap<string, number>
  /** How many runs there were in all. */
  runs: () => number
}

/** Starts a receiver that always answers 200, once it has noted the event. */
export async function startReceiver(): Promise<Receiver> {
  const firstAt = new Map<string, number>()
  let runs = 0
  const server = createServer((request, response) => {
    request.resume().on('end', () => {
      const id = String(request.headers['ringback-event-id'])
      runs += 1
      if (!firstAt.has(id)) firstAt.set(id, Date.now())
      response.end()
    })
  })
  const { port, [Symbol.asyncDispose]: close } = await listen(server)
  return { url: `http://127.0.0.1:${port}/`, firstAt, runs: () => runs, [Symbol.asyncDispose]: close }
}
