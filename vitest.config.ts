import { defineConfig } from 'vitest/config'

/** The service tests run once on each queue backend. */
const services = (['redis', 'postgres'] as const).map((queue) => ({
  test: {
    name: `services:${queue}`,
    include: ['test/**/*.test.ts'],
    provide: { queue },
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
}))

export default defineConfig({
  test: {
    globalSetup: ['test/support/servers.ts'],
    projects: [
      { test: { name: 'unit', include: ['apps/*/src/**/*.test.ts', 'packages/*/src/**/*.test.ts'] } },
      ...services,
    ],
  },
})
