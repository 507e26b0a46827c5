import { readdir } from 'node:fs/promises'
import type { StoreJob } from '@ringback/core/callback'
import { createLogger } from '@ringback/core/log'
import { createProducer, queueServer } from '@ringback/core/queue'
import { openSpool } from '@ringback/core/spool'
import type { SpooledGroup } from '@ringback/core/spool'
import { describeSpool, holdsGroups, spoolFolders } from '@ringback/core/spools'
import type { Command } from 'commander'
import { readDrainEnvironment, readEnvironment } from '../environment.ts'
import { print, printList, showProgress } from '../output.ts'

const ADD_TIMEOUT_MS = 5000

/** `ringback spool list` and `drain` */
export function addSpoolCommand(program: Command): void {
  const command = program.command('spool').description('groups that wait on disk for a queue that was down')
  command
    .command('list')
    .description('the spools in SPOOL_DIR, and what waits in each')
    .action(async (_options: unknown, self: Command) => {
      const dir = await spoolDir(readEnvironment())
      const { spools, problems } = await describeAll(dir)
      if (spools.length > 0 || problems.length === 0)
        printList(self, spools, { cells, none: `There is no spool in ${dir}` })
      if (problems.length > 0) throw new Error(problems.join('\n'))
    })
  command
    .command('drain')
    .description(
      'give the queue what waits in spools that no ingest holds; a running ingest drains its own, and abandoned ones',
    )
    .action(drainAll)
}

/** Describes each spool. One that cannot be looked at, such as another user's, is a problem and hides no other. */
async function describeAll(dir: string) {
  const spools: Described[] = []
  const problems: string[] = []
  for (const folder of await spoolFolders(dir)) {
    await describe(folder).then(
      (spool) => spools.push(spool),
      (error: Error) => problems.push(`${folder}: ${error.message}`),
    )
  }
  return { spools, problems }
}

type Described = Awaited<ReturnType<typeof describe>>

async function describe(folder: string) {
  const { oldestAt, ...spool } = await describeSpool(folder)
  return { folder, ...spool, oldestAt: oldestAt === undefined ? null : new Date(oldestAt) }
}

function cells({ held, oldestAt, ...spool }: Described) {
  return { ...spool, held: held ? 'yes' : 'no', oldestAt: oldestAt?.toISOString() ?? '' }
}

/** Throws where no spool could be seen: that would look as if nothing waited there. */
async function spoolDir({ SPOOL_DIR: dir }: { SPOOL_DIR: string | undefined }): Promise<string> {
  if (dir === undefined) throw new Error('SPOOL_DIR is not set: it is where ingest keeps its spool')
  await readdir(dir).catch((cause: unknown) => {
    throw new Error('SPOOL_DIR cannot be read: it is where ingest keeps its spool', { cause })
  })
  return dir
}

async function drainAll(_options: unknown, self: Command): Promise<void> {
  const environment = readDrainEnvironment()
  const dir = await spoolDir(environment)
  // Standard output is for the result. Errors tell of damage, and why a file cannot be read.
  const log = createLogger('cli', 'error', process.stderr)
  const producer = createProducer<StoreJob>(queueServer(environment), 'store', { timeoutMs: ADD_TIMEOUT_MS, log })
  const held: string[] = []
  const problems: string[] = []
  let drained = 0
  const add = async ({ id, job }: SpooledGroup) => {
    await producer.add(id, job as StoreJob)
    drained += 1
    showProgress(`${drained} groups drained`)
  }

  async function drain(folder: string): Promise<void> {
    if (!(await holdsGroups(folder))) return
    const spool = await openSpool(folder, { maxBytes: 0, log })
    if (spool === undefined) held.push(folder)
    else await spool.drain(add).finally(() => spool.close())
  }

  // A spool that cannot be drained holds up no other.
  for (const folder of await spoolFolders(dir)) {
    await drain(folder).catch((error: Error) => problems.push(`${folder}: ${error.message}`))
  }
  showProgress('')
  await producer.close()
  print(self, { drained, held }, `${drained} groups were given to the queue`)
  if (held.length > 0) {
    problems.push(`Not drained, for they are held by an ingest that runs and drains them itself: ${held.join(', ')}`)
  }
  if (problems.length > 0) throw new Error(problems.join('\n'))
}
