import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { chown, cp, mkdir, readFile, readlink, rename, symlink } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'

// Postgres refuses to run as root. Another account then runs it, and must reach the server's folder and programs.

const run = promisify(execFile)

/** Where root keeps what the server's account must reach, if that account may not enter Ringback's folder. */
const SHARED_DIR = '/var/lib/ringback'

/** The account that the server runs as: the present one, or another if that is root, which Postgres refuses. */
export interface Account {
  uid?: number
  gid?: number
}

export function serverAccount(): Account {
  if (process.getuid?.() !== 0) return {}
  const entries = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
  const entry = entries.find(([name]) => name === 'postgres') ?? entries.find(([name]) => name === 'nobody')
  if (entry === undefined) {
    throw new Error(
      'Postgres refuses to run as root, and there is no user "postgres" or "nobody" to run it: start Ringback as an ordinary user',
    )
  }
  return { uid: Number(entry[2]), gid: Number(entry[3]) }
}

/** The folder for the server, made if need be, and the account's own. */
export async function reachableDir(wantedDir: string | undefined, account: Account): Promise<string> {
  let dir = resolve(wantedDir ?? '.ringback')
  await makeDir(dirname(dir))
  if (!(await canEnter(dirname(dir), account))) {
    if (wantedDir !== undefined) {
      throw new Error(
        `Postgres refuses to run as root, and the user that runs it instead may not enter ${dirname(dir)}: ` +
          `set RINGBACK_DATA_DIR to a folder that everybody may enter, for example ${SHARED_DIR}`,
      )
    }
    dir = await sharedDir(dir)
  }
  await makeDir(dir, 0o700)
  if (account.uid !== undefined) await chown(dir, account.uid, account.gid!)
  return dir
}

/**
 * The folder under /var/lib/ringback that `link` leads to. The link is made if it can be: by it, people and the CLI find the
 * data where they expect them, and Ringback does after its own folder was moved.
 */
async function sharedDir(link: string): Promise<string> {
  const digest = createHash('sha256').update(link).digest('hex').slice(0, 8)
  const dir = join(SHARED_DIR, `${basename(dirname(link))}-${digest}`)
  await makeDir(SHARED_DIR)
  // It is there from the second start on, or something else is.
  await symlink(dir, link).catch(() => undefined)
  const linked = await readlink(link).catch(() => dir)
  return dirname(linked) === SHARED_DIR ? linked : dir
}

async function makeDir(dir: string, mode?: number): Promise<void> {
  await mkdir(dir, { recursive: true, mode }).catch((cause) => {
    throw cannotBeUsed(dir, cause)
  })
}

/** The error of a folder that cannot be made or written. */
export function cannotBeUsed(dir: string, cause: unknown): Error {
  return new Error(`${dir} is no folder that can be written: set RINGBACK_DATA_DIR to one`, { cause })
}

/** The server's programs, each by its path. */
export interface Programs {
  initdb: string
  pg_ctl: string
  postgres: string
}

/** The programs in a place where the server's account can run them: copied, if it may not enter node_modules. */
export async function reachablePrograms(programs: Programs, account: Account): Promise<Programs> {
  const native = dirname(dirname(programs.postgres))
  if (await canEnter(native, account)) return programs
  const { version } = JSON.parse(await readFile(join(dirname(native), 'package.json'), 'utf8')) as { version: string }
  const copy = join(SHARED_DIR, `postgres-${version}`)
  if (!existsSync(copy)) {
    const part = `${copy}.${process.pid}`
    await cp(native, part, { recursive: true, verbatimSymlinks: true })
    await rename(part, copy)
  }
  return { initdb: join(copy, 'bin/initdb'), pg_ctl: join(copy, 'bin/pg_ctl'), postgres: join(copy, 'bin/postgres') }
}

async function canEnter(dir: string, account: Account): Promise<boolean> {
  if (account.uid === undefined) return true
  return run('test', ['-x', dir], account).then(
    () => true,
    () => false,
  )
}
