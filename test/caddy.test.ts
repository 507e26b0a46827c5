import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { freePort } from './support/free-port.ts'
import { temporaryFolder } from './support/processes.ts'
import { ensureProgram } from './support/programs.ts'
import { eventually } from './support/ringback.ts'

const configuration = fileURLToPath(new URL('../deploy/Caddyfile', import.meta.url))

test('what Caddy logs while ingest is down holds no secret of a request', async () => {
  const program = ensureProgram('caddy', { package: 'caddy' })
  await using folder = await temporaryFolder()
  const site = `http://127.0.0.1:${await freePort()}`
  const file = join(folder.path, 'Caddyfile')
  const changed = (await readFile(configuration, 'utf8'))
    .replace('{', '{\n\tadmin off')
    .replace('ingest:3000', `127.0.0.1:${await freePort()}`)
    .replace('lb_try_duration 5s', 'lb_try_duration 0s')
  await writeFile(file, changed)
  const caddy = spawn(program, ['run', '--config', file, '--adapter', 'caddyfile'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, DOMAIN: site, XDG_CONFIG_HOME: folder.path, XDG_DATA_HOME: folder.path },
  })
  let logged = ''
  caddy.stderr.on('data', (chunk) => (logged += String(chunk)))
  try {
    const headers = { 'X-API-Key': 'hush', Authorization: 'Bearer hush' }
    const response = await eventually(() => fetch(`${site}/callbacks/crm/hush`, { method: 'POST', headers }))
    expect(response.status).toBe(502)
    await eventually(async () => expect(logged).toContain('connection refused'))
    expect(logged).not.toContain('hush')
  } finally {
    caddy.kill('SIGKILL')
    await once(caddy, 'close')
  }
})
