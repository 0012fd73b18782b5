// What is written in a weekend: LISTEN, and every notification's payload goes to the sockets of its topic.
import { createServer } from 'node:http'
import pg from 'pg'
import { WebSocketServer } from 'ws'

const [port, url] = process.argv.slice(2)
const topics = new Map()
const client = new pg.Client({ connectionString: url })
client.on('notification', ({ payload }) => {
  const { topic } = JSON.parse(payload)
  for (const member of topics.get(topic) ?? []) member.send(payload)
})
await client.connect()
await client.query('listen changes')

const http = createServer()
const server = new WebSocketServer({ server: http, perMessageDeflate: false })
server.on('connection', (socket, request) => {
  const topic = request.url.slice(1)
  const members = topics.get(topic) ?? new Set()
  topics.set(topic, members.add(socket))
  socket.on('close', () => members.delete(socket))
  socket.on('error', () => socket.terminate())
  socket.send('joined')
})
http.listen(Number(port), '127.0.0.1', 4096)
