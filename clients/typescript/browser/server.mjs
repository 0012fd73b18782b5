/**
 * The real binary over a database of its own. PGRELAY_TEST_DATABASE_URL names a PostgreSQL server where databases may be made
 * (`scripts/postgres start 15 <folder>` prints one), PGRELAY_BIN the binary; target/debug/pgrelay if left out.
 */
import { spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import net from 'node:net'
import { fileURLToPath } from 'node:url'

import pg from 'pg'

import { signToken } from './token.mjs'

const BINARY = process.env.PGRELAY_BIN ?? fileURLToPath(new URL('../../../target/debug/pgrelay', import.meta.url))
/** How long the binary may take to start or to stop. */
const DEADLINE_MS = 30_000

/** What a healthy server may warn of while it is killed, restarted and cut off. */
const EXPECTED = []

function testDatabaseUrl() {
  const url = process.env.PGRELAY_TEST_DATABASE_URL
  if (!url) throw new Error('PGRELAY_TEST_DATABASE_URL is not set: scripts/postgres start 15 <folder> starts a server and prints what it is to be')
  return url
}

async function connect(url) {
  const client = new pg.Client({ connectionString: url.href ?? url })
  await client.connect()
  return client
}

async function createDatabase() {
  const url = new URL(testDatabaseUrl())
  const name = `pgrelay_browser_${process.pid}_${randomBytes(4).toString('hex')}`
  const admin = await connect(url)
  await admin.query(`create database ${name}`)
  await admin.end()
  url.pathname = `/${name}`
  return {
    url,
    async drop() {
      const again = await connect(testDatabaseUrl())
      await again.query(`drop database ${name} with (force)`).catch(() => again.query(`drop database ${name}`))
      await again.end()
    },
  }
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  return port
}

/** A migrated database and a running server; `kill` and `start` are what a crash and its repair are. */
export async function startServer() {
  const database = await createDatabase()
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const secret = randomBytes(32).toString('hex')
  const env = {
    PATH: process.env.PATH,
    DATABASE_URL: database.url.href,
    PGRELAY_JWT_SECRET: secret,
    PGRELAY_LISTEN: `127.0.0.1:${port}`,
    PGRELAY_SHARDS: '2',
  }
  const log = []
  let child

  function launch(...args) {
    const process = spawn(BINARY, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
    process.stderr.on('data', (data) => log.push(String(data)))
    return process
  }
  async function run(...args) {
    const [code] = await once(launch(...args), 'exit')
    if (code !== 0) throw new Error(`pgrelay ${args.join(' ')} ended with ${code}:\n${log.join('')}`)
  }
  async function start() {
    child = launch('serve')
    const until = Date.now() + DEADLINE_MS
    for (;;) {
      const answer = await fetch(`${url}/readyz`).catch(() => undefined)
      if (answer?.ok) return
      if (child.exitCode !== null || Date.now() > until) throw new Error(`pgrelay does not become ready:\n${log.join('')}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
  async function end(signal) {
    if (child.exitCode !== null) return
    child.kill(signal)
    await once(child, 'exit')
  }

  await run('migrate', '--chat')
  const client = await connect(database.url)
  await start()
  return {
    url,
    token: (user, seconds) => signToken(secret, user, seconds),
    async query(sql, values) {
      return (await client.query(sql, values)).rows
    },
    async openBooking(code, clientId, clientName = null) {
      const id = randomUUID()
      await client.query('insert into public.bookings (id, code, client_id, client_name) values ($1, $2, $3, $4)', [id, code, clientId, clientName])
      return { id, code }
    },
    start,
    kill: () => end('SIGKILL'),
    stop: () => end('SIGTERM'),
    /** Lines in which the server asks for attention. */
    complaints: () => log.join('').split('\n').filter((line) => /\b(WARN|ERROR)\b/.test(line) && !EXPECTED.some((one) => one.test(line))),
    async close() {
      await end('SIGTERM')
      await client.end()
      await database.drop()
    },
  }
}
