// Runs a command with the Node.js, the pnpm and the dependencies that Ringback needs: `node scripts/with-node.mjs COMMAND
// ARG...`. Any Node that some npm came with can run this file; what is missing comes from the npm registry by npx, and
// dependencies are installed exactly as the lockfile says.
import { spawn, spawnSync } from 'node:child_process'
import { statSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const NODE_MAJOR = 26
const PNPM_MAJOR = 12

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
process.chdir(root)

const [command, ...args] = process.argv.slice(2)
const mustInstall = modifiedAt('node_modules/.modules.yaml') < modifiedAt('pnpm-lock.yaml')
const path = toolsPath({ withPnpm: mustInstall || command === 'pnpm' })
const env = { ...process.env, PATH: [join(root, 'node_modules', '.bin'), path].join(delimiter) }

if (mustInstall) {
  const options = ['--frozen-lockfile', '--reporter=append-only', '--loglevel=warn']
  const install = spawnSync('pnpm', ['install', ...options], { env, stdio: 'inherit' })
  if (install.status !== 0) process.exit(install.status ?? 1)
}

const child = spawn(command, args, { env, stdio: 'inherit' })
child.on('error', (error) => {
  console.error(`${command} cannot be started: ${error.message}`)
  process.exit(1)
})
let asked = false
// Ctrl-C reaches the child by itself, with everything else in the terminal's group; it ends when it has finished.
process.on('SIGINT', () => (asked = true))
for (const signal of ['SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    asked = true
    child.kill('SIGTERM')
  })
}
// npm's shell ends at a signal without passing it on; whoever has lost its parent takes it as said, once.
const parent = process.ppid
const watching = setInterval(() => {
  if (process.ppid === parent) return
  clearInterval(watching)
  if (!asked) child.kill('SIGTERM')
}, 500)
child.on('exit', (code, signal) => process.exit(signal ? 1 : code))

/** 0 for a file that is not there. */
function modifiedAt(file) {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

/** A PATH on which `node`, and `pnpm` if it is needed, are new enough: the present one, or that of npx's copies. */
function toolsPath({ withPnpm }) {
  const packages = []
  if (Number(process.versions.node.split('.')[0]) < NODE_MAJOR) packages.push(`node@${NODE_MAJOR}`)
  if (withPnpm && pnpmMajor() < PNPM_MAJOR) packages.push(`pnpm@${PNPM_MAJOR}`)
  if (packages.length === 0) return process.env.PATH
  const options = ['-y', ...packages.flatMap((name) => ['-p', name]), '-c', 'node -p process.env.PATH']
  const npx = spawnSync('npx', options, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  if (npx.status !== 0) {
    console.error(`npx could not bring ${packages.join(' and ')}: is the npm registry reachable?`)
    process.exit(1)
  }
  return npx.stdout.trim()
}

/** 0 where there is no pnpm. Asked outside the project, where pnpm does not look for the version that it names. */
function pnpmMajor() {
  const { stdout } = spawnSync('pnpm', ['--version'], { encoding: 'utf8', cwd: '/' })
  return Number(stdout?.split('.')[0] ?? 0)
}
