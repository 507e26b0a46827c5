// Runs a command with the Node.js and pnpm that Ringback needs: `node scripts/with-node.mjs COMMAND ARG...`. Any Node
// that some npm came with can run this file; what is missing comes from the npm registry by npx. Dependencies are
// installed first, exactly as the lockfile says.
import { spawn, spawnSync } from 'node:child_process'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const NODE_MAJOR = 26
const PNPM_MAJOR = 12

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
process.chdir(root)

const path = toolsPath()
const env = { ...process.env, PATH: [join(root, 'node_modules', '.bin'), path].join(delimiter) }

const install = spawnSync('pnpm', ['install', '--frozen-lockfile', '--reporter=append-only', '--loglevel=warn'], {
  env,
  stdio: 'inherit',
})
if (install.status !== 0) process.exit(install.status ?? 1)

const [command, ...args] = process.argv.slice(2)
const child = spawn(command, args, { env, stdio: 'inherit' })
child.on('error', (error) => {
  console.error(`${command} cannot be started: ${error.message}`)
  process.exit(1)
})
// Ctrl-C reaches the child by itself, with everything else in the terminal's group; it ends when it has finished.
process.on('SIGINT', () => {})
process.on('SIGTERM', () => child.kill('SIGTERM'))
child.on('exit', (code, signal) => process.exit(signal ? 1 : code))

/** A PATH on which `node` and `pnpm` are new enough: the present one, or that of npx's copies. */
function toolsPath() {
  const packages = []
  if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR) packages.push(`node@${NODE_MAJOR}`)
  const pnpm = spawnSync('pnpm', ['--version'], { encoding: 'utf8', cwd: '/' })
  if (pnpm.status !== 0 || Number(pnpm.stdout.split('.')[0]) < PNPM_MAJOR) packages.push(`pnpm@${PNPM_MAJOR}`)
  if (packages.length === 0) return process.env.PATH
  const npx = spawnSync('npx', ['-y', ...packages.flatMap((name) => ['-p', name]), '-c', 'node -p process.env.PATH'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  if (npx.status !== 0) {
    console.error(`npx could not bring ${packages.join(' and ')}: is the npm registry reachable?`)
    process.exit(1)
  }
  return npx.stdout.trim()
}
