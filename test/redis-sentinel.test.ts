import { expect, test } from 'vitest'
import { createProducer } from '@ringback/core/queue'
import { expectStored, startLoad, storesMore } from './support/load.ts'
import { freePort } from './support/free-port.ts'
import { ingestPort, runApp } from './support/processes.ts'
import { startSentinels } from './support/redis-servers.ts'
import { eventually, freshDatabase, log } from './support/ringback.ts'

test.each(['SIGKILL', 'SIGSTOP'] as const)(
  'the master gets %s under load, sentinels choose another: nothing acknowledged is lost, and everything goes on by itself',
  async (signal) => {
    await using sentinels = await startSentinels()
    await using database = await freshDatabase()
    const environment = { DATABASE_URL: database.url, REDIS_URL: sentinels.url, REDIS_WAIT_REPLICAS: '1' }
    await using ingest = runApp('ingest', { ...environment, PORT: '0' })
    await using worker = runApp('worker', environment)
    const port = await ingestPort(ingest)
    await worker.prints(/worker\.started/)
    const load = startLoad(port)
    await storesMore(database, load, 300)

    sentinels.master.kill(signal)
    await eventually(async () => {
      const roles = await Promise.all(sentinels.replicas.map(({ client }) => client.info('replication')))
      expect(roles.filter((role) => role.includes('role:master'))).toHaveLength(1)
    })
    await storesMore(database, load, 300)
    await load.end()
    await expectStored(database, load)
    expect([ingest.child.exitCode, worker.child.exitCode]).toEqual([null, null])
  },
  120_000,
)

test('a producer that has found no sentinel can be closed', async () => {
  const url = `redis+sentinel://127.0.0.1:${await freePort()}/mymaster`
  const producer = createProducer({ kind: 'redis', url, prefix: '{ringback}' }, 'store', { timeoutMs: 500, log })
  await expect(producer.add('group-1', {})).rejects.toThrow('did not answer')
  await producer.close()
})
