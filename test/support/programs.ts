import { execFileSync, spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The settings that Ringback asks for: with these, a Redis loses nothing that it has acknowledged. */
// oxfmt-ignore
export const REDIS_SETTINGS = [
  '--appendonly', 'yes', '--appendfsync', 'always', '--maxmemory-policy', 'noeviction', '--save', '',
]

/** The folders of programs that are started as services. Not every user has them in PATH. */
const SERVICE_FOLDERS = ['/usr/sbin', '/usr/local/sbin']

/**
 * The program's path or name. If need be, it is installed with apt-get, where this runs as root on Debian. If it cannot be
 * had, throws an error that says what to do; `otherwise` names what else would do.
 */
export function ensureProgram(
  program: string,
  { package: name, otherwise = '' }: { package: string; otherwise?: string },
): string {
  const found = findProgram(program)
  if (found !== undefined) return found
  if (process.getuid?.() === 0 && isThere('apt-get')) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
    const install = 'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$0"'
    // One after the other: apt-get refuses to run where it is running for another test.
    const lock = join(tmpdir(), 'ringback-test-apt-get.lock')
    execFileSync('flock', [lock, 'sh', '-c', install, name], { stdio: 'ignore', env })
    const installed = findProgram(program)
    if (installed !== undefined) return installed
  }
  throw new Error(`${program} is needed and not there: install it (Debian: apt-get install ${name})${otherwise}`)
}

function findProgram(program: string): string | undefined {
  return [program, ...SERVICE_FOLDERS.map((folder) => join(folder, program))].find(isThere)
}

/** Whether the program can be started, whatever it makes of the option. */
export function isThere(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined
}
