import { once } from 'node:events'
import { createServer } from 'node:net'

const FIRST = 10_000
const PORTS_PER_PROCESS = 1000
const PROCESSES = 20

// Each process of the test runner has ports of its own.
const from = FIRST + (Number(process.env.VITEST_POOL_ID ?? 0) % PROCESSES) * PORTS_PER_PROCESS
let turn = Math.floor(Math.random() * PORTS_PER_PROCESS)

/**
 * A port of 127.0.0.1 that nothing listens on, and that nobody else will take before it is used. The system gives no port
 * below 32,768 to a connection, and this process gives none out twice before it has given out all.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    turn += 1
    const port = from + (turn % PORTS_PER_PROCESS)
    const probe = createServer().listen(port, '127.0.0.1')
    try {
      await once(probe, 'listening')
    } catch {
      continue
    }
    probe.close()
    await once(probe, 'close')
    return port
  }
}
