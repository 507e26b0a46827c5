import { createServer, request } from 'node:http'
import type { IncomingMessage } from 'node:http'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { listen } from './support/listen.ts'
import { startNginx } from './support/nginx.ts'

test('nginx passes on all that ingest takes: long URLs as they are, and headers of any name', async () => {
  const received: IncomingMessage[] = []
  // Node's own limit of URL and headers is that of ingest.
  await using ingest = await listen(
    createServer((incoming, response) => {
      received.push(incoming)
      response.end()
    }),
  )
  await using nginx = await startNginx([ingest.port, ingest.port])
  const path = `/callbacks/x/../%2f//?text=${'%D0%B6'.repeat(2500)}`
  const headers = { x_signature: 'a', 'x.signature': 'b' }
  const sending = request({ port: nginx.port, host: '127.0.0.1', path, headers }).end()
  const [response] = (await once(sending, 'response')) as [IncomingMessage]
  response.resume()
  expect(response.statusCode).toBe(200)
  expect(received.at(-1)).toMatchObject({ url: path, headers })
})
