import { existsSync } from 'node:fs'
import { code } from '@ringback/core/handlers'
import type { Limits } from '@ringback/core/handlers'
import withoutHandler from './none.config.ts'

const { FAN_OUT_DOWN_FILE } = process.env
const limits: Limits = {
  breaker: { failureShare: 0.5, minAttempts: 10, windowMs: 10_000, openMs: 2000 },
  concurrency: 400,
}
const retry = { firstDelayMs: 1000, maxDelayMs: 5000, maxAttempts: 100 }

function failWhileDown(): void {
  if (FAN_OUT_DOWN_FILE !== undefined && existsSync(FAN_OUT_DOWN_FILE)) throw new Error('down')
}

/** Three destinations for every event. The last is down while a certain file exists. */
export default {
  ...withoutHandler,
  handlers: [
    { name: 'first', run: code(() => {}), limits, retry },
    { name: 'second', run: code(() => {}), limits, retry },
    { name: 'third', run: code(failWhileDown), limits, retry },
  ],
}
