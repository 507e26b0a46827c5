import { once } from 'node:events'
import { createServer } from 'node:http'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { createAnnounceClose } from './announce-close.ts'

test('a connection that has closed is held no longer', async () => {
  const asked = Promise.withResolvers<ServerResponse>()
  const server = createServer((_request, response) => asked.resolve(response))
  const announceClose = createAnnounceClose(server)
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  const response = await asked.promise
  const closed = once(response.socket!, 'close')
  client.destroy()
  await closed
  announceClose()
  expect(response.getHeader('Connection')).toBeUndefined()
  server.close()
})
