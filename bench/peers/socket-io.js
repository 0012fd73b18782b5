// Socket.IO with its PostgreSQL adapter, over WebSocket alone; a topic is a room.
// With a database, rows inserted into a table are emitted by a connection of its own, as the adapter's emitter does.
import { createServer } from 'node:http'
import { createAdapter } from '@socket.io/postgres-adapter'
import pg from 'pg'
import { Server } from 'socket.io'

const [port, url] = process.argv.slice(2)
const http = createServer()
const io = new Server(http, {
  transports: ['websocket'],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  pingInterval: 600_000,
})
const pool = new pg.Pool({ connectionString: url })
await pool.query(`create table if not exists socket_io_attachments
  (id bigserial unique, created_at timestamptz default now(), payload bytea)`)
io.adapter(createAdapter(pool))
io.on('connection', (socket) => {
  // The documentation's advice for memory: let go of the first request.
  const { topic } = socket.handshake.query
  socket.conn.request = null
  if (topic) socket.join(topic)
  socket.on('publish', (room, content) => io.to(room).emit('m', content))
  socket.emit('joined')
})
http.listen(Number(port), '127.0.0.1', 4096)
