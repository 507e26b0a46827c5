import { spawn } from 'node:child_process'
import { once } from 'node:events'
import filesystem, {
  mkdir,
  mkdtemp,
  open,
  readFile,
  readdir,
  readlink,
  rm,
  rmdir,
  stat,
  writeFile,
} from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { afterEach, expect, onTestFinished, test, vi } from 'vitest'
import { createLogger } from '../log.ts'
import { encodeGroup, readSegment } from './records.ts'
import { openSpool } from './spool.ts'
import type { Spool, SpooledGroup } from './spool.ts'
import { holdsGroups } from './spools.ts'

const options = { maxBytes: 100_000_000, log: createLogger('test', 'silent') }

const folders: string[] = []
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true })
})

async function aFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringback-spool-'))
  folders.push(folder)
  return folder
}

const aGroup = (number: number, bytes = 10): SpooledGroup => ({
  id: `group-${number}`,
  at: 1_700_000_000_000 + number,
  job: { version: '1', callbacks: 'я'.repeat(bytes / 2) },
})

async function drained(spool: Spool): Promise<string[]> {
  const ids: string[] = []
  await spool.drain(async ({ id }) => void ids.push(id))
  return ids
}

const putAside = async (folder: string) => (await readdir(folder)).filter((name) => name.endsWith('.damaged'))

const segmentsIn = async (folder: string) => (await readdir(folder)).filter((name) => name.endsWith('.groups'))

test('groups come back as they were given, in their order, after a restart too, and leave no file behind', async () => {
  const folder = await aFolder()
  const before = (await openSpool(folder, options))!
  for (let number = 1; number <= 3; number++) await before.append(aGroup(number))
  await before.close()

  const spool = (await openSpool(folder, options))!
  await spool.append(aGroup(4))
  expect(spool.usage()).toMatchObject({ groups: 4, oldestAt: aGroup(1).at })
  const groups: SpooledGroup[] = []
  await spool.drain(async (group) => void groups.push(group))
  expect(groups).toEqual([1, 2, 3, 4].map((number) => aGroup(number)))
  expect(spool.usage()).toEqual({ groups: 0, bytes: 0, oldestAt: undefined })
  expect(await segmentsIn(folder)).toEqual([])
  await spool.close()
})

test('what waits can be read by nobody else on the machine', async () => {
  const folder = join(await aFolder(), 'above', 'spool')
  const spool = (await openSpool(folder, options))!
  await spool.append(aGroup(1))
  const [segment] = await segmentsIn(folder)
  expect((await stat(folder)).mode & 0o777).toBe(0o700)
  expect((await stat(join(folder, segment!))).mode & 0o777).toBe(0o600)
  await spool.close()
})

test('the oldest of what waits tells since when, also behind a file that holds no group', async () => {
  const folder = await aFolder()
  await writeFile(join(folder, '000000000001.groups'), encodeGroup(aGroup(1)).subarray(0, 20))
  const spool = (await openSpool(folder, options))!
  expect(spool.usage()).toMatchObject({ groups: 0, oldestAt: undefined })
  await spool.append(aGroup(2))
  await spool.append(aGroup(3))
  expect(spool.usage()).toMatchObject({ groups: 2, oldestAt: aGroup(2).at })
  await spool.close()
})

test('a spool whose first files have been drained takes groups again after a restart', async () => {
  const folder = await aFolder()
  const before = (await openSpool(folder, options))!
  // Two files' worth.
  for (let number = 1; number <= 12; number++) await before.append(aGroup(number, 1_000_000))
  await before
    .drain(async ({ id }) => {
      if (id === 'group-12') throw new Error('the queue is down')
    })
    .catch(() => undefined)
  await before.close()
  expect(await segmentsIn(folder)).toEqual(['000000000002.groups'])

  const spool = (await openSpool(folder, options))!
  await spool.append(aGroup(13))
  expect((await drained(spool)).slice(-2)).toEqual(['group-12', 'group-13'])
  expect(await holdsGroups(folder)).toBe(false)
  await spool.close()
})

test('what is appended while others are, and while the spool is drained, comes out once', async () => {
  const spool = (await openSpool(await aFolder(), options))!
  const ids: string[] = []
  let areOnDisk = false
  const numbers = Array.from({ length: 100 }, (_, index) => index + 1)
  const appending = Promise.all(numbers.map((number) => spool.append(aGroup(number)))).finally(() => (areOnDisk = true))
  while (!areOnDisk) {
    await spool.drain(async ({ id }) => void ids.push(id))
    await setImmediate()
  }
  await appending
  ids.push(...(await drained(spool)))
  expect(ids).toEqual(numbers.map((number) => `group-${number}`))
  await spool.close()
})

test('a drain that fails goes on with the group that failed', async () => {
  const spool = (await openSpool(await aFolder(), options))!
  for (let number = 1; number <= 3; number++) await spool.append(aGroup(number))
  const taken: string[] = []
  for (let time = 0; time < 2; time++) {
    const failing = spool.drain(async ({ id }) => {
      if (id === 'group-2') throw new Error('the queue is down')
      taken.push(id)
    })
    await expect(failing).rejects.toThrow('the queue is down')
    expect(spool.usage().groups).toBe(2)
  }
  await spool.append(aGroup(4))
  expect([...taken, ...(await drained(spool))]).toEqual(['group-1', 'group-2', 'group-3', 'group-4'])
  await spool.close()
})

test('a process that is killed in the middle of a drain leaves every group that was not given to its end', async () => {
  const folder = await aFolder()
  const spool = (await openSpool(folder, options))!
  // Three files' worth.
  for (let number = 1; number <= 20; number++) await spool.append(aGroup(number, 1_000_000))
  await spool.close()
  const program = `
    import { openSpool } from ${JSON.stringify(join(import.meta.dirname, 'spool.ts'))}
    const spool = await openSpool(${JSON.stringify(folder)}, { maxBytes: 1e9, log: { info() {}, error() {} } })
    await spool.drain(async ({ id }) => {
      if (id === 'group-12') process.kill(process.pid, 'SIGKILL')
    })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'inherit' })
  expect(await once(child, 'exit')).toEqual([null, 'SIGKILL'])

  const after = (await openSpool(folder, options))!
  const ids = await drained(after)
  expect(ids).toEqual(expect.arrayContaining(Array.from({ length: 9 }, (_, index) => `group-${index + 12}`)))
  expect(ids.length).toBeLessThan(20)
  await after.close()
})

test('what was written halfway is left out, and what lies before and after damage is kept', async () => {
  const folder = await aFolder()
  const path = join(folder, '000000000001.groups')
  const whole = [1, 2, 3].map((number) => encodeGroup(aGroup(number)))
  await writeFile(path, Buffer.concat([...whole, whole[0]!.subarray(0, 20)]))
  const spool = (await openSpool(folder, options))!
  expect(await drained(spool)).toEqual(['group-1', 'group-2', 'group-3'])
  expect(await segmentsIn(folder)).toEqual([])
  await spool.close()

  await writeFile(path, Buffer.concat(whole))
  const file = await open(path, 'r+')
  await file.write('XX', whole[0]!.length + 20)
  await file.close()
  const damaged = (await openSpool(folder, options))!
  expect(await drained(damaged)).toEqual(['group-1', 'group-3'])
  expect(await putAside(folder)).toHaveLength(1)
  await damaged.close()

  // The last group was whole, and nobody knows that it was not acknowledged.
  const broken = Buffer.concat(whole)
  broken[broken.length - 1]! ^= 1
  await writeFile(path, broken)
  const atTheEnd = (await openSpool(folder, options))!
  expect(await drained(atTheEnd)).toEqual(['group-1', 'group-2'])
  expect(await putAside(folder)).toHaveLength(2)
  await atTheEnd.close()
})

test('a damaged file is put aside where the drain was interrupted behind the damage, too', async () => {
  const folder = await aFolder()
  const [first, second, third] = [1, 2, 3].map((number) => encodeGroup(aGroup(number)))
  second![20]! ^= 1
  await writeFile(join(folder, '000000000001.groups'), Buffer.concat([first!, second!, third!]))
  const spool = (await openSpool(folder, options))!
  const interrupted = spool.drain(async ({ id }) => {
    if (id === 'group-3') throw new Error('the queue is down')
  })
  await expect(interrupted).rejects.toThrow('the queue is down')
  expect(await drained(spool)).toEqual(['group-3'])
  expect(await putAside(folder)).toHaveLength(1)
  await spool.close()
})

test('whatever bytes a segment holds, reading it ends and takes nothing for a group that is none', async () => {
  const group = encodeGroup(aGroup(1, 1000))
  for (let round = 0; round < 500; round++) {
    const bytes = Buffer.from(group)
    const at = (round * 7919) % bytes.length
    bytes[at] = bytes[at]! ^ (1 + (round % 255))
    for (const part of readSegment(bytes)) expect(part.kind).not.toBe('group')
  }
  for (let length = 0; length < group.length; length += length < 40 ? 1 : 13) {
    expect([...readSegment(group.subarray(0, length))].every(({ kind }) => kind === 'unfinished')).toBe(true)
  }
})

test('whatever lies between groups that are whole, it is told as damage and they are found', () => {
  const [first, second] = [1, 2].map((number) => encodeGroup(aGroup(number)))
  const longer = Buffer.from(first!)
  longer.writeUInt32LE(2 ** 31, 4) // reaches beyond the file
  const junk = [
    longer,
    first!.subarray(0, 20),
    Buffer.from('RBS1RBS1'),
    Buffer.from('RBS1\0\0\0\0\0\0\0\0'), // its checksum is right
    ...[1, 2, 3, 11, 12].map((bytes) => Buffer.alloc(bytes, 'x')),
  ]
  for (const bytes of junk) {
    const parts = [...readSegment(Buffer.concat([first!, bytes, second!]))]
    expect(parts.map(({ kind }) => kind)).toEqual(['group', 'damaged', 'group'])
    expect(parts[1]).toMatchObject({ bytes: bytes.length })
  }
  // At the end, only the beginning of a group may be one that was being written.
  const noBeginning = [...[1, 3, 11].map((bytes) => Buffer.alloc(bytes, 'x')), Buffer.alloc(40, 0xff)]
  for (const bytes of noBeginning) {
    expect([...readSegment(Buffer.concat([first!, bytes]))].map(({ kind }) => kind)).toEqual(['group', 'damaged'])
  }
})

test('a spool refuses what would take it beyond its bound, and takes groups again when it is drained', async () => {
  const spool = (await openSpool(await aFolder(), { ...options, maxBytes: 5000 }))!
  await spool.append(aGroup(1, 3000))
  await expect(spool.append(aGroup(2, 3000))).rejects.toThrow('the spool is full')
  expect(await drained(spool)).toEqual(['group-1'])
  await spool.append(aGroup(2, 3000))
  await spool.close()
})

test('a group is in the file when append resolves', async () => {
  const folder = await aFolder()
  const spool = (await openSpool(folder, options))!
  for (let number = 1; number <= 5; number++) {
    await spool.append(aGroup(number))
    const content = await readFile(join(folder, '000000000001.groups'))
    expect([...readSegment(content)]).toHaveLength(number)
  }
  await spool.close()
})

/** What is asked of every file and folder: `datasync` of a file's content, `sync` of a folder's names. */
async function syncs() {
  const handle = await open(tmpdir())
  const prototype = Object.getPrototypeOf(handle) as typeof handle
  await handle.close()
  onTestFinished(() => void vi.restoreAllMocks())
  return { datasync: vi.spyOn(prototype, 'datasync'), sync: vi.spyOn(prototype, 'sync') }
}

test('when append resolves the group is synced, and so are the names of its file and of the folders that were made', async () => {
  const { datasync, sync } = await syncs()
  const spool = (await openSpool(join(await aFolder(), 'spools', '0'), options))!
  expect(sync).toHaveBeenCalledTimes(2)
  await spool.append(aGroup(1))
  expect([datasync.mock.calls.length, sync.mock.calls.length]).toEqual([1, 3])
  await spool.append(aGroup(2))
  expect([datasync.mock.calls.length, sync.mock.calls.length]).toEqual([2, 3])
  await spool.close()
})

test('after a sync that failed nothing more goes into that file, and what was acknowledged before it is kept', async () => {
  const { datasync } = await syncs()
  const folder = await aFolder()
  const spool = (await openSpool(folder, options))!
  await spool.append(aGroup(1))
  datasync.mockRejectedValueOnce(new Error('EIO'))
  await expect(spool.append(aGroup(2))).rejects.toThrow('EIO')
  await spool.append(aGroup(3))
  expect(await segmentsIn(folder)).toHaveLength(2)
  expect(await drained(spool)).toEqual(['group-1', 'group-3'])
  await spool.close()
})

test('a file of which the first sync failed is not left behind, and the next group goes into another', async () => {
  const { datasync } = await syncs()
  const folder = await aFolder()
  const spool = (await openSpool(folder, options))!
  datasync.mockRejectedValueOnce(new Error('EIO'))
  await expect(spool.append(aGroup(1))).rejects.toThrow('EIO')
  expect(await segmentsIn(folder)).toEqual([])
  await spool.append(aGroup(2))
  expect(await drained(spool)).toEqual(['group-2'])
  await spool.close()
})

test('a file whose name could not be synced is not left behind', async () => {
  const folder = await aFolder()
  const spool = (await openSpool(folder, options))!
  const { sync } = await syncs()
  sync.mockRejectedValueOnce(new Error('EIO'))
  await expect(spool.append(aGroup(1))).rejects.toThrow('EIO')
  expect(await segmentsIn(folder)).toEqual([])
  await spool.append(aGroup(2))
  expect(await drained(spool)).toEqual(['group-2'])
  await spool.close()
})

test('a probe fails while a group could not be appended: for want of room, and for the disk', async () => {
  const spool = (await openSpool(await aFolder(), { ...options, maxBytes: 5000 }))!
  await spool.probe()
  await spool.append(aGroup(1, 1000))
  await expect(spool.append(aGroup(2, 4500))).rejects.toThrow('the spool is full')
  await expect(spool.probe()).rejects.toThrow('the spool is full')
  await drained(spool)
  await spool.probe()
  // No room would ever do for this one, and others go on.
  await expect(spool.append(aGroup(3, 6000))).rejects.toThrow('the spool is full')
  await spool.probe()
  const { datasync } = await syncs()
  datasync.mockRejectedValueOnce(new Error('EIO'))
  await expect(spool.probe()).rejects.toThrow('EIO')
  await spool.close()
})

// Only Linux lists the files that a process has open.
test.runIf(process.platform === 'linux')(
  'no file is left open, whatever comes of a probe and of an append',
  async () => {
    const folder = await aFolder()
    const spool = (await openSpool(folder, options))!
    const filesOpen = async () => {
      const descriptors = await readdir('/proc/self/fd')
      const paths = await Promise.all(descriptors.map((own) => readlink(`/proc/self/fd/${own}`).catch(() => '')))
      return paths.filter((path) => path.startsWith(folder)).toSorted()
    }
    const before = await filesOpen()
    await spool.probe()
    const { datasync, sync } = await syncs()
    datasync.mockRejectedValueOnce(new Error('EIO'))
    await expect(spool.probe()).rejects.toThrow('EIO')
    for (const failing of [sync, datasync]) {
      failing.mockRejectedValueOnce(new Error('EIO'))
      await expect(spool.append(aGroup(1))).rejects.toThrow('EIO')
    }
    expect(await filesOpen()).toEqual(before)
    await spool.close()
  },
)

test('close waits for what is being written, and only then another may hold the spool', async () => {
  const folder = await aFolder()
  const spool = (await openSpool(folder, options))!
  const { datasync } = await syncs()
  const { promise: isWriting, resolve: begin } = Promise.withResolvers<void>()
  const { promise: disk, resolve: answer } = Promise.withResolvers<void>()
  datasync.mockImplementationOnce(() => (begin(), disk))
  const appending = spool.append(aGroup(1))
  await isWriting
  const closing = spool.close()
  await setImmediate()
  expect(await openSpool(folder, options)).toBeUndefined()
  answer()
  await Promise.all([appending, closing])
  const next = (await openSpool(folder, options))!
  expect(await drained(next)).toEqual(['group-1'])
  await next.close()
})

test('a spool whose folder could not be listed is held by nobody, and opens when it can be', async () => {
  const folder = await aFolder()
  const readdirOnce = vi.spyOn(filesystem, 'readdir').mockRejectedValueOnce(new Error('EIO'))
  syncBuiltinESMExports()
  onTestFinished(() => {
    readdirOnce.mockRestore()
    syncBuiltinESMExports()
  })
  await expect(openSpool(folder, options)).rejects.toThrow('EIO')
  const spool = await openSpool(folder, options)
  expect(spool).toBeDefined()
  await spool?.close()
})

test('a file that cannot be read keeps no spool closed and no file behind it back, and is drained when it can be', async () => {
  const folder = await aFolder()
  const path = join(folder, '000000000001.groups')
  await mkdir(path)
  const lines: unknown[] = []
  const write = (line: string) => void lines.push(JSON.parse(line))
  const spool = (await openSpool(folder, { ...options, log: createLogger('test', 'info', { write }) }))!
  await spool.append(aGroup(2))
  expect(spool.usage()).toMatchObject({ groups: 1, oldestAt: aGroup(2).at })

  const ids: string[] = []
  const drain = () => spool.drain(async ({ id }) => void ids.push(id))
  await expect(drain()).rejects.toThrow(`cannot be read: ${path}`)
  expect(ids).toEqual(['group-2'])
  expect(lines).toEqual([expect.objectContaining({ msg: 'spool.unreadable', path, error: expect.any(String) })])
  await expect(drain()).rejects.toThrow(path)

  await rmdir(path)
  await writeFile(path, Buffer.concat([encodeGroup(aGroup(1)), encodeGroup(aGroup(3))]))
  for (let time = 0; time < 2; time++) {
    const interrupted = spool.drain(async ({ id }) => {
      if (id === 'group-3') throw new Error('the queue is down')
    })
    await expect(interrupted).rejects.toThrow('the queue is down')
    expect(spool.usage()).toMatchObject({ groups: 1, oldestAt: aGroup(1).at })
  }
  await drain()
  expect(ids).toEqual(['group-2', 'group-3'])
  expect(spool.usage()).toEqual({ groups: 0, bytes: 0, oldestAt: undefined })
  await spool.close()
})

test('a file that cannot be deleted keeps no file behind it back, is read and given once, and deleted when it can be', async () => {
  const spool = (await openSpool(await aFolder(), options))!
  for (const number of [1, 2]) await spool.append(aGroup(number, 9_000_000))
  const unlinkOnce = vi.spyOn(filesystem, 'unlink').mockRejectedValueOnce(new Error('EROFS'))
  const read = vi.spyOn(filesystem, 'readFile')
  syncBuiltinESMExports()
  onTestFinished(() => {
    for (const spy of [unlinkOnce, read]) spy.mockRestore()
    syncBuiltinESMExports()
  })
  const ids: string[] = []
  const drain = () => spool.drain(async ({ id }) => void ids.push(id))
  await expect(drain()).rejects.toThrow('EROFS')
  expect(ids).toEqual(['group-1', 'group-2'])
  await drain()
  expect(read).toHaveBeenCalledTimes(2)
  expect(ids).toEqual(['group-1', 'group-2'])
  expect(await holdsGroups(spool.folder)).toBe(false)
  await spool.close()
})

test('a file that somebody puts into a spool in use is in the way of one group at most', async () => {
  const spool = (await openSpool(await aFolder(), options))!
  await writeFile(join(spool.folder, '000000000001.groups'), encodeGroup(aGroup(1)))
  await spool.append(aGroup(2)).catch(() => undefined)
  await spool.append(aGroup(3))
  expect(await drained(spool)).toContain('group-3')
  await spool.close()
})

/**
 * Runs a program where a write beyond the first `kilobytes` of a file is cut short, as on a full disk. Resolves to what it
 * prints.
 */
async function onFullDisk(program: string, kilobytes = 8): Promise<string> {
  const source = `import { openSpool } from ${JSON.stringify(join(import.meta.dirname, 'spool.ts'))}\n${program}`
  const limited = [
    '-c',
    `ulimit -f ${kilobytes}; exec "$0" "$@"`,
    process.execPath,
    '--input-type=module',
    '-e',
    source,
  ]
  const child = spawn('bash', limited, { stdio: ['ignore', 'pipe', 'inherit'] })
  const [[printed]] = await Promise.all([once(child.stdout, 'data'), once(child, 'close')])
  return String(printed).trim()
}

test('when the disk takes no more, append rejects, and all that was appended before is kept', async () => {
  const folder = await aFolder()
  const printed = await onFullDisk(`
    const spool = await openSpool(${JSON.stringify(folder)}, { maxBytes: 1e9, log: {} })
    const appended = []
    for (let number = 1; number <= 12; number++) {
      const id = 'group-' + number
      await spool.append({ id, at: number, job: { callbacks: 'x'.repeat(3000) } }).then(() => appended.push(id), () => {})
    }
    console.log(appended.join())`)
  const appended = printed.split(',')
  expect(appended.length).toBeGreaterThan(4)
  expect(appended.length).toBeLessThan(12)
  const spool = (await openSpool(folder, options))!
  expect(await drained(spool)).toEqual(appended)
  await spool.close()
})

test('what an earlier process has left is drained also where the disk has no room for a single byte', async () => {
  const folder = await aFolder()
  const earlier = (await openSpool(folder, options))!
  await earlier.append(aGroup(1))
  await earlier.close()
  const printed = await onFullDisk(
    `
    const spool = await openSpool(${JSON.stringify(folder)}, { maxBytes: 1e9, log: {} })
    const drained = []
    await spool.drain(async ({ id }) => drained.push(id))
    console.log(drained.join())`,
    0,
  )
  expect(printed).toBe('group-1')
  expect(await holdsGroups(folder)).toBe(false)
})

test('a probe fails where the disk has no room for a group like the last, and takes no room itself', async () => {
  const folder = await aFolder()
  const printed = await onFullDisk(`
    const spool = await openSpool(${JSON.stringify(folder)}, { maxBytes: 1e9, log: {} })
    const outcomes = []
    const note = (work) => work.then(() => outcomes.push('done'), ({ code }) => outcomes.push(code))
    await note(spool.append({ id: 'small', at: 1, job: { callbacks: 'x'.repeat(3000) } }))
    await note(spool.probe())
    await note(spool.append({ id: 'large', at: 2, job: { callbacks: 'x'.repeat(30_000) } }))
    await note(spool.probe())
    console.log(outcomes.join())`)
  expect(printed).toBe('done,done,EFBIG,EFBIG')
  expect((await stat(join(folder, 'probe'))).size).toBe(0)
})
