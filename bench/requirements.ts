import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/** Throws unless the programs that npm does not bring are there; wrk is installed if that is possible. */
export function assertRequirements(): void {
  if (process.platform !== 'linux')
    throw new Error('The benchmark reads CPU times from /proc, so it needs Linux: run it in a container or a VM')
  if (!isInstalled('redis-server')) {
    throw new Error(
      'There is no redis-server on PATH; install it with your package manager ("apt-get install redis-server", "apk add redis")',
    )
  }
  if (isInstalled('wrk')) return
  if (process.getuid?.() === 0 && existsSync('/etc/debian_version') && isInstalled('apt-get')) {
    console.error('wrk, the load generator, is missing: apt-get install wrk')
    execFileSync('apt-get', ['install', '--yes', '--quiet', 'wrk'], { stdio: ['ignore', 2, 2] })
    return
  }
  throw new Error(
    'There is no wrk, the load generator, on PATH; install it with your package manager ("sudo apt-get install wrk", ' +
      '"sudo dnf install wrk", "apk add wrk") or build it from https://github.com/wg/wrk',
  )
}

/** Whether a program is on PATH. */
export function isInstalled(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((dir) => existsSync(`${dir}/${program}`))
}
