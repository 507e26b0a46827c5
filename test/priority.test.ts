import { readdirSync, readFileSync } from 'node:fs'
import { getPriority } from 'node:os'
import { expect, test } from 'vitest'
import { runApp } from './support/processes.ts'
import { environmentFor, freshDatabase } from './support/ringback.ts'

// Elsewhere threads have no priority of their own, and no /proc to read it from.
const onLinux = test.runIf(process.platform === 'linux')
const OWN = getPriority()
const LOW = Math.max(OWN, 10)

onLinux('an answer waits for no worker: all its threads let others go first', async () => {
  await using database = await freshDatabase()
  await using worker = runApp('worker', { ...(await environmentFor(database)), LOG_LEVEL: 'info' })
  await worker.prints(/worker\.started/)
  const priorities = threadsOf(worker.child.pid!).map(({ priority }) => priority)
  expect(priorities.length).toBeGreaterThan(1)
  expect(new Set(priorities)).toEqual(new Set([LOW]))
})

onLinux(
  "an answer waits for no garbage collector: ingest's helper threads let others go first, and it does not",
  async () => {
    await using database = await freshDatabase()
    await using ingest = runApp('ingest', { ...(await environmentFor(database)), LOG_LEVEL: 'info', PORT: '0' })
    await ingest.prints(/ingest\.listening/)
    const threads = threadsOf(ingest.child.pid!)
    const helpers = threads.filter(({ name }) => name.includes('V8Worker'))
    expect(helpers.length).toBeGreaterThan(0)
    expect(new Set(helpers.map(({ priority }) => priority))).toEqual(new Set([LOW]))
    expect(threads.find(({ id }) => id === ingest.child.pid)?.priority).toBe(OWN)
  },
)

function threadsOf(pid: number): { id: number; name: string; priority: number }[] {
  return readdirSync(`/proc/${pid}/task`).map((id) => ({
    id: Number(id),
    name: readFileSync(`/proc/${pid}/task/${id}/comm`, 'utf8'),
    priority: getPriority(Number(id)),
  }))
}
