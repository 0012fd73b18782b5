// A hub as one writes it with the package ws: a set of sockets for each topic. Same protocol as bun.js.
import { WebSocketServer } from 'ws'

const topics = new Map()
const server = new WebSocketServer({
  host: '127.0.0.1',
  port: Number(process.argv[2]),
  perMessageDeflate: false,
  backlog: 4096,
})
server.on('connection', (socket, request) => {
  const topic = request.url.slice(1)
  if (topic) {
    const members = topics.get(topic) ?? new Set()
    topics.set(topic, members.add(socket))
    socket.on('close', () => members.delete(socket))
  }
  socket.on('error', () => socket.terminate())
  socket.on('message', (data) => {
    const message = data.toString()
    const end = message.indexOf('\n')
    const content = Buffer.from(message.slice(end + 1))
    for (const member of topics.get(message.slice(0, end)) ?? []) member.send(content, { binary: false })
  })
  socket.send('joined')
})
