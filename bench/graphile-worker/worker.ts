import { run } from 'graphile-worker'
import type { Callback } from '../naive/is-genuine.ts'
import { storeOneByOne } from '../naive/store-one-by-one.ts'

// Set up as Graphile Worker's page on performance advises: a local queue, and jobs completed in batches.
await run({
  connectionString: process.env.DATABASE_URL!,
  maxPoolSize: 10,
  preset: {
    worker: {
      concurrentJobs: 24,
      localQueue: { size: 500 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  },
  taskList: { store: (payload) => storeOneByOne((payload as { callbacks: Callback[] }).callbacks) },
})
