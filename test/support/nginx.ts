import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensureProgram } from './programs.ts'
import { temporaryFolder } from './processes.ts'
import { eventually } from './ringback.ts'
import { freePort } from './free-port.ts'

const configuration = fileURLToPath(new URL('../../deploy/nginx.conf', import.meta.url))

/** A request that nginx sent to more than one ingest, or got no 200 for. */
export interface Detour {
  status: number
  /** For each ingest that it tried, whether it connected, so that the request may have been sent. */
  connected: boolean[]
}

export interface Nginx extends AsyncDisposable {
  port: number
  detours: () => Promise<Detour[]>
}

/** Starts nginx in front of ingests on `ports`, with deploy/nginx.conf, in which only ports and paths are changed. */
export async function startNginx(ports: [number, number]): Promise<Nginx> {
  const program = ensureProgram('nginx', { package: 'nginx' })
  const folder = await temporaryFolder()
  const port = await freePort()
  const accessLog = join(folder.path, 'access.log')
  const site = (await readFile(configuration, 'utf8'))
    .replace('server 127.0.0.1:3000', `server 127.0.0.1:${ports[0]}`)
    .replace('server 127.0.0.1:3001', `server 127.0.0.1:${ports[1]}`)
    .replace('listen 80', `listen 127.0.0.1:${port}`)
    .replace('/var/log/nginx/ringback.log', accessLog)
    .replace('/var/log/nginx/ringback-error.log', join(folder.path, 'error.log'))
  const main = join(folder.path, 'nginx.conf')
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${join(folder.path, name)};`,
  )
  await writeFile(
    main,
    `${process.getuid?.() === 0 ? 'user root;' : ''} daemon off; pid ${join(folder.path, 'pid')};
    events { worker_connections 1024; }
    http { ${temporary.join(' ')} ${site} }`,
  )
  const child = spawn(program, ['-c', main, '-e', 'stderr'], { stdio: ['ignore', 'ignore', 'pipe'] })
  let output = ''
  child.stderr.on('data', (chunk) => (output += String(chunk)))
  const ended = once(child, 'close')
  await eventually(async () => {
    if (child.exitCode !== null) throw new Error(`nginx has ended: ${output}`)
    await fetch(`http://127.0.0.1:${port}/livez`)
  })
  return {
    port,
    detours: async () => (await readFile(accessLog, 'utf8')).split('\n').filter(Boolean).map(parsed).filter(isDetour),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await ended
      await folder[Symbol.asyncDispose]()
    },
  }
}

/** Parses `2026-08-01T10:00:00+00:00 POST 200 0.004s "127.0.0.1:3000, 127.0.0.1:3001" "502, 200" "-, 0.000"`. */
function parsed(line: string): Detour & { method: string } {
  const match = /^\S+ (\S+) (\d+) \S+ ".*" ".*" "(.*)"$/.exec(line)
  if (match === null) throw new Error(`not a line of the log: ${line}`)
  const [, method, status, connectTimes] = match
  return { method: method!, status: Number(status), connected: connectTimes!.split(', ').map((time) => time !== '-') }
}

function isDetour({ method, status, connected }: ReturnType<typeof parsed>): boolean {
  return method === 'POST' && (status !== 200 || connected.length > 1)
}
