// Bun's built-in publish and subscribe (uWebSockets). The path is the topic; a message is a topic, a line feed, the content.
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.argv[2]),
  fetch(request, server) {
    const topic = new URL(request.url).pathname.slice(1)
    return server.upgrade(request, { data: topic }) ? undefined : new Response('not a WebSocket', { status: 400 })
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    open(socket) {
      if (socket.data) socket.subscribe(socket.data)
      socket.send('joined')
    },
    message(socket, message) {
      const end = message.indexOf('\n')
      server.publish(message.slice(0, end), message.slice(end + 1))
    },
  },
})
