import type { Callback } from '../naive/is-genuine.ts'
import { storeTogether } from '../naive/store-one-by-one.ts'
import { QUEUE, startBoss } from './queue.ts'

const boss = await startBoss({ supervises: true })

// Large batches, the shortest poll that pg-boss accepts, and no pause after a full batch. With 50 jobs at a time, polling
// would be the limit.
await boss.work<{ callbacks: Callback[] }>(
  QUEUE,
  { batchSize: 1000, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true },
  (jobs) => storeTogether(jobs.flatMap(({ data }) => data.callbacks)),
)
