import { ensureProgram } from '../test/support/programs.ts'

/** Throws unless this is Linux and wrk, the load generator, is there or can be installed. */
export function assertRequirements(): void {
  if (process.platform !== 'linux')
    throw new Error('The benchmark reads CPU times from /proc, so it needs Linux: run it in a container or a VM')
  ensureProgram('wrk', { package: 'wrk' })
}
