import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { createLogger } from './log.ts'

/** A process of its own, which has a `log`. */
function run(code: string) {
  const module = JSON.stringify(fileURLToPath(new URL('log.ts', import.meta.url)))
  const source = `import { createLogger } from ${module}\nconst log = createLogger('test', 'info')\n${code}`
  return spawn(process.execPath, ['--input-type=module', '--eval', source], { stdio: ['ignore', 'pipe', 'pipe'] })
}

test.each([
  ['of itself', '', 0],
  ['by an exit', 'process.exit(3)', 3],
  ['by an error', 'throw new Error()', 1],
])('every line is printed of a process that ends %s at once', async (_how, end, code) => {
  const child = run(`log.info('first'); log.info('last'); ${end}`)
  const [output, [exitCode]] = await Promise.all([text(child.stdout), once(child, 'close')])
  // In whatever order: the last may leave while the first is still on its way.
  const lines = output.split('\n').map((line) => line && (JSON.parse(line) as { msg: string }).msg)
  expect(lines.toSorted()).toEqual(['', 'first', 'last'])
  expect(exitCode).toBe(code)
})

test.each([
  ['a terminal that is closed', 'EIO'],
  ['a pipe whose reader has gone', 'EPIPE'],
  ['a full disk', 'ENOSPC'],
])('%s neither ends a process that logs nor keeps it from ending', async (_what, code) => {
  const child = run(`
    import fs from 'node:fs'
    const failure = Object.assign(new Error('not written'), { code: '${code}' })
    fs.write = (...args) => setImmediate(args.at(-1), failure)
    fs.writeSync = () => { throw failure }
    for (let n = 0; n < 10; n++) {
      log.info('line')
      await new Promise(setImmediate)
    }
    process.exit(3)`)
  try {
    const [exitCode] = await once(child, 'close')
    expect(exitCode).toBe(3)
  } finally {
    child.kill('SIGKILL')
  }
})

test('what a full disk did not take is printed once there is room, also if the process ends then', async () => {
  const child = run(`
    import fs from 'node:fs'
    const { write } = fs
    const failure = Object.assign(new Error('full'), { code: 'ENOSPC' })
    fs.write = (...args) => setImmediate(args.at(-1), failure)
    log.info('while it is full')
    for (let n = 0; n < 10; n++) await new Promise(setImmediate)
    fs.write = write
    log.info('afterwards')
    for (let n = 0; n < 10; n++) await new Promise((resolve) => setTimeout(resolve, 10))
    log.info('last but one')
    log.info('last')
    process.exit()`)
  const printed = (await text(child.stdout)).match(/(?<="msg":")[^"]+/g)
  expect(printed?.toSorted()).toEqual(['afterwards', 'last', 'last but one', 'while it is full'])
})

test('a reader that does not read costs neither time nor more than some memory', async () => {
  const child = run(`
    for (let n = 0; n < 500; n++) {
      for (let line = 0; line < 1000; line++) log.info({ filler: 'x'.repeat(200) }, 'line')
      await new Promise(setImmediate)
    }
    console.error(Math.round(process.memoryUsage().rss / 1024 / 1024))`)
  try {
    const [megabytes] = (await once(child.stderr, 'data')) as [Buffer]
    expect(Number(String(megabytes))).toBeLessThan(200) // of 150 MB that were logged
  } finally {
    child.kill('SIGKILL')
  }
}, 30_000)

test('secrets and what a request holds are in no line, also where a field holds them some levels deep', async () => {
  const lines: string[] = []
  const log = createLogger('test', 'info', { write: (line) => void lines.push(line) })
  const error = Object.assign(new Error('no answer'), { request: { headers: { authorization: 'hush' } } })
  log.info({ token: 'hush', settings: { list: [{ apiKey: 'hush', name: 'shown' }] } }, 'with fields')
  log.error({ err: error, at: new Date(0) }, 'with an error')
  log.error(error)
  expect(lines.join('')).not.toContain('hush')
  const [withFields, withError, errorAlone] = lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  expect(withFields).toMatchObject({ settings: { list: [{ apiKey: '[Redacted]', name: 'shown' }] } })
  const shown = { type: 'Error', message: 'no answer', stack: expect.stringContaining('log.test.ts') as string }
  expect(withError).toMatchObject({ err: shown, at: '1970-01-01T00:00:00.000Z' })
  expect(errorAlone).toMatchObject({ err: shown, msg: 'no answer' })
})

test('secrets that lie deeper than it is looked are not shown', () => {
  const lines: string[] = []
  const log = createLogger('test', 'info', { write: (line) => void lines.push(line) })
  log.info({ a: { b: { c: { d: { e: { token: 'hush' } } } } } }, 'deep')
  expect(lines.join('')).not.toContain('hush')
})

test('a field that cannot be read costs its line the fields, and the caller nothing', () => {
  const lines: string[] = []
  const log = createLogger('test', 'info', { write: (line) => void lines.push(line) })
  const broken = {
    get field() {
      throw new Error('not today')
    },
  }
  log.info({ broken }, 'all the same')
  expect(JSON.parse(lines[0]!)).toMatchObject({ msg: 'all the same', unreadable: 'not today' })
})
