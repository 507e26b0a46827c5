import { execFileSync, spawnSync } from 'node:child_process'
import { join } from 'node:path'

/** What Ringback asks of a Redis: that it loses nothing which it has acknowledged. */
// oxfmt-ignore
export const REDIS_SETTINGS = [
  '--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction', '--save', '',
]

/** Where Debian puts programs that are started as services; not every user has it in PATH. */
const SERVICE_FOLDERS = ['/usr/sbin', '/usr/local/sbin']

/**
 * The program's path or name, installed if need be with apt-get where this runs as root on Debian. Throws an error that
 * says what to do where it cannot be had. `otherwise` names what else would do.
 */
export function ensureProgram(
  program: string,
  { package: name, otherwise = '' }: { package: string; otherwise?: string },
): string {
  const found = findProgram(program)
  if (found !== undefined) return found
  if (process.getuid?.() === 0 && isThere('apt-get')) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    execFileSync('apt-get', ['update', '-qq'], { stdio: 'ignore', env })
    execFileSync('apt-get', ['install', '-y', '-qq', '--no-install-recommends', name], { stdio: 'ignore', env })
    const installed = findProgram(program)
    if (installed !== undefined) return installed
  }
  throw new Error(`The service tests need ${program}: install it (Debian: apt-get install ${name})${otherwise}`)
}

function findProgram(program: string): string | undefined {
  return [program, ...SERVICE_FOLDERS.map((folder) => join(folder, program))].find(isThere)
}

/** Whether it can be started; what it makes of the option is its own affair. */
function isThere(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined
}
