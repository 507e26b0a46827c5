import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'

// In a process of its own, for a priority that was lowered stays so.
describe.runIf(process.platform === 'linux')('priority', () => {
  test('the worker lets others go first with every thread', async () => {
    const threads = await threadsAfter('lowerPriority')
    expect(threads.length).toBeGreaterThan(1)
    expect(new Set(threads.map(({ priority }) => priority))).toEqual(new Set([10]))
  })

  test("at ingest V8's helpers wait for the main thread, which keeps its priority", async () => {
    const threads = await threadsAfter('lowerHelperPriority')
    const helpers = threads.filter(({ name }) => name.includes('V8Worker'))
    expect(helpers.length).toBeGreaterThan(0)
    expect(new Set(helpers.map(({ priority }) => priority))).toEqual(new Set([10]))
    expect(threads.find(({ isMain }) => isMain)?.priority).toBe(0)
  })

  test('a priority that is lower already is left as it is', async () => {
    const threads = await threadsAfter('lowerPriority', ['nice', '-n', '15'])
    expect(new Set(threads.map(({ priority }) => priority))).toEqual(new Set([15]))
  })
})

interface Thread {
  name: string
  isMain: boolean
  priority: number
}

async function threadsAfter(lower: string, before: string[] = []): Promise<Thread[]> {
  const script = `
    const { ${lower} } = await import(${JSON.stringify(`${import.meta.dirname}/priority.ts`)})
    const { readdirSync, readFileSync } = await import('node:fs')
    const { getPriority } = await import('node:os')
    ${lower}()
    console.log(JSON.stringify(readdirSync('/proc/self/task').map((id) => ({
      name: readFileSync('/proc/self/task/' + id + '/comm', 'utf8').trim(),
      isMain: Number(id) === process.pid,
      priority: getPriority(Number(id)),
    }))))`
  const args = [...before, process.execPath, '--input-type=module', '--eval', script]
  const { stdout } = await promisify(execFile)('env', args)
  return JSON.parse(stdout) as Thread[]
}
