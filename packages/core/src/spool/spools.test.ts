import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, onTestFinished, test } from 'vitest'
import { createLogger } from '../log.ts'
import { openSpool } from './spool.ts'
import type { Spool, SpooledGroup } from './spool.ts'
import { holdsGroups, openOwnSpool, spoolFolders, unsafeSpool } from './spools.ts'

const options = { maxBytes: 100_000_000, log: createLogger('test', 'silent') }

async function aFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringback-spools-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  return folder
}

const group: SpooledGroup = { id: 'group-1', at: 1_700_000_000_000, job: {} }

async function drained(spool: Spool): Promise<string[]> {
  const ids: string[] = []
  await spool.drain(async ({ id }) => void ids.push(id))
  return ids
}

test('a spool has one holder at a time, and a killed one holds nothing', async () => {
  const dir = join(await aFolder(), 'new')
  const first = await openOwnSpool(dir, options)
  const second = await openOwnSpool(dir, options)
  expect(await spoolFolders(dir)).toEqual([first.folder, second.folder])
  expect(await openSpool(first.folder, options)).toBeUndefined()
  const program = `
    import { openOwnSpool } from ${JSON.stringify(join(import.meta.dirname, 'spools.ts'))}
    const spool = await openOwnSpool(${JSON.stringify(dir)}, { maxBytes: 1e9, log: {} })
    await spool.append(${JSON.stringify(group)})
    console.log(spool.folder)
    setInterval(() => spool.usage(), 1000) // which keeps it`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [printed] = await once(child.stdout, 'data')
  const theirs = String(printed).trim()
  expect(theirs).toBe(join(dir, '2'))
  expect(await openSpool(theirs, options)).toBeUndefined()
  child.kill('SIGKILL')
  await once(child, 'exit')
  expect(await holdsGroups(theirs)).toBe(true)
  const adopted = (await openSpool(theirs, options))!
  expect(await drained(adopted)).toEqual(['group-1'])
  for (const spool of [first, second, adopted]) await spool.close()
})

test('a spool that cannot be opened keeps no process from having one', async () => {
  const dir = await aFolder()
  await mkdir(join(dir, '0', 'lock'), { recursive: true })
  await expect(openSpool(join(dir, '0'), options)).rejects.toThrow()
  const spool = await openOwnSpool(dir, options)
  expect(spool.folder).toBe(join(dir, '1'))
  await spool.append(group)
  expect(await drained(spool)).toEqual(['group-1'])
  await spool.close()
})

test("another user's spool, such as a restored one of root's, is passed over", async () => {
  const dir = await aFolder()
  await (await openOwnSpool(dir, options)).close()
  await chmod(join(dir, '0'), 0o755)
  await chmod(join(dir, '0/lock'), 0o444)
  await chmod(dir, 0o777)
  const program = `
    import { openOwnSpool } from ${JSON.stringify(join(import.meta.dirname, 'spools.ts'))}
    if (process.getuid() === 0) process.setuid(65534) // root may write everywhere
    console.log((await openOwnSpool(${JSON.stringify(dir)}, { maxBytes: 1e9, log: {} })).folder)`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
  expect(stdout.trim()).toBe(join(dir, '1'))
})

test('of what lies beside spools nothing is taken for one', async () => {
  const dir = await aFolder()
  for (const name of ['lost+found', '10', '2', '00000']) await mkdir(join(dir, name))
  expect(await spoolFolders(dir)).toEqual([join(dir, '2'), join(dir, '10')])
})

test('a spool that lies in memory is told of, with what to do', async () => {
  expect(await unsafeSpool('/dev/shm')).toMatch(/tmpfs.*mount a disk or a volume/)
})

test('a folder that cannot be made is an error that names it', async () => {
  const folder = await aFolder()
  await appendFile(join(folder, 'file'), '')
  await expect(openOwnSpool(join(folder, 'file'), options)).rejects.toThrow(/^E[A-Z]+: .* mkdir '.*\/file/)
})
