import type { Callback } from '../naive/is-genuine.ts'
import { storeTogether } from '../naive/store-one-by-one.ts'
import { QUEUE, startBoss } from './queue.ts'

const boss = await startBoss({ supervises: true })

// Large batches, the shortest poll that it takes, and no pause after a full batch: with 50 at a time the polls bind it.
await boss.work<{ callbacks: Callback[] }>(
  QUEUE,
  { batchSize: 1000, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true },
  (jobs) => storeTogether(jobs.flatMap(({ data }) => data.callbacks)),
)
