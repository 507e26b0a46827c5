import { defineConfig } from 'vitest/config'

/** About what only a Redis has. */
const ONLY_REDIS = ['test/redis-*.test.ts']

/** About what is in Postgres or goes over HTTP, wherever the queue is: once is enough. */
const WITHOUT_QUEUE = [
  'caddy',
  'calls',
  'connections',
  'database-url',
  'deliveries-cli',
  'deliveries-table',
  'doctor',
  'due-deliveries',
  'explain',
  'export',
  'follow',
  'migrations',
  'names',
  'nginx',
  'quiet-sources',
  'run-deliveries',
  'session-settings',
  'sql-book',
  'store',
  'unsafe-settings',
].map((name) => `test/${name}.test.ts`)

/** Servers and their children are found by /proc. */
const ONLY_LINUX = ['test/faults.test.ts']

/** The service tests run once on each queue backend. */
const services = (['redis', 'postgres'] as const).map((queue) => ({
  test: {
    name: `services:${queue}`,
    include: ['test/**/*.test.ts'],
    exclude: [
      ...(queue === 'redis' ? [] : [...ONLY_REDIS, ...WITHOUT_QUEUE]),
      ...(process.platform === 'linux' ? [] : ONLY_LINUX),
    ],
    provide: { queue },
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
}))

export default defineConfig({
  test: {
    globalSetup: ['test/support/servers.ts'],
    // Most tests wait most of the time, for servers and for processes that start: two cores bear three files at a time.
    // More would need more connections than the one Postgres of all of them has.
    maxWorkers: 3,
    // Of tests that say they may: those of test/faults.test.ts mostly wait, and each has servers of its own.
    maxConcurrency: 3,
    projects: [
      {
        test: {
          name: 'unit',
          include: ['apps/*/src/**/*.test.ts', 'packages/*/src/**/*.test.ts', 'docs/*.test.ts'],
          // Some start a process, or wait for a disk that the others keep busy.
          testTimeout: 30_000,
        },
      },
      ...services,
    ],
  },
})
