/**
 * The pages and a pgrelay in memory behind real HTTP and WebSockets, to look at the pages where there is no database:
 * `npm run mock` after a build of the package and of the pages.
 */
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { extname } from 'node:path'
import { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'

import { WebSocketServer } from 'ws'

import { createFakeRelay, fakeToken } from '../dist/testing.mjs'

export const CLIENT = { id: 'c0000000-0000-4000-8000-000000000001', role: 'client', name: 'Ann Archer' }
export const OPERATOR = { id: 'd0000000-0000-4000-8000-000000000002', role: 'operator', name: 'Dana' }

const PAGES = fileURLToPath(new URL('../../examples/built/dist/', import.meta.url))
const KINDS = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' }

async function servePage(path, response) {
  const file = path === '/chat' || path === '/desk' ? `${path}.html` : path
  if (file.includes('..')) return response.writeHead(404).end()
  try {
    const content = await readFile(PAGES + file)
    response.writeHead(200, { 'content-type': KINDS[extname(file)] ?? 'application/octet-stream' }).end(content)
  } catch {
    response.writeHead(404).end()
  }
}

async function serveApi(relay, request, response) {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  const abort = new AbortController()
  response.on('close', () => abort.abort())
  const body = Buffer.concat(chunks).toString()
  const answer = await relay.fetch(`http://mock${request.url}`, {
    method: request.method ?? 'GET',
    headers: { authorization: request.headers.authorization ?? '' },
    signal: abort.signal,
    ...(body && { body }),
  })
  response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? 'application/json' })
  if (answer.body) Readable.fromWeb(answer.body).on('error', () => response.end()).pipe(response)
  else response.end()
}

/** Serves on a port of 127.0.0.1; any, if none is given. */
export async function startMockServer(port = 0) {
  const relay = createFakeRelay()
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://mock')
    const serve = pathname.startsWith('/api/') || pathname === '/events' ? serveApi(relay, request, response) : servePage(pathname, response)
    serve.catch(() => response.destroy())
  })
  const sockets = new WebSocketServer({ server })
  sockets.on('connection', (socket, request) => {
    if (relay.faults.webSocketsBlocked) return socket.terminate()
    const token = new URL(request.url ?? '/', 'http://mock').searchParams.get('apikey')
    const connection = relay.connect((raw) => socket.send(raw), token)
    socket.on('message', (raw) => connection.receive(String(raw)))
    socket.on('close', () => connection.end())
  })
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve))
  const { port: at } = server.address()
  return {
    url: `http://127.0.0.1:${at}`,
    relay,
    close: async () => {
      for (const socket of sockets.clients) socket.terminate()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

/** The addresses of the two pages for a booking. */
export function pageUrls(url, booking) {
  return {
    chat: `${url}/chat?booking=${booking}#token=${fakeToken(CLIENT)}`,
    desk: `${url}/desk?booking=${booking}#token=${fakeToken(OPERATOR)}`,
  }
}
