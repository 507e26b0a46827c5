import { createServer } from 'node:http'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isGenuine } from '../naive/is-genuine.ts'
import type { Callback } from '../naive/is-genuine.ts'

// Shows the limit of Node: reads, verifies, answers, and stores nothing.

const JSON_TYPE = { 'Content-Type': 'application/json' }

function answer(request: IncomingMessage, response: ServerResponse): void {
  if (request.url === '/readyz') {
    response.end('ready')
    return
  }
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    const { callbacks } = JSON.parse(Buffer.concat(chunks).toString()) as { callbacks: Callback[] }
    const genuine = callbacks.every(isGenuine)
    response
      .writeHead(genuine ? 200 : 401, JSON_TYPE)
      .end(genuine ? '{"status":"received"}' : '{"error":"not accepted"}')
  })
}

createServer(answer).listen(Number(process.env.PORT), '127.0.0.1')
