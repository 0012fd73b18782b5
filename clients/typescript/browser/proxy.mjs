/** A TCP proxy whose connections can really be cut: a browser's offline switch leaves open WebSockets as they are. */
import { once } from 'node:events'
import net from 'node:net'

/** What a network may let through or not, told by the head of a request. */
const KINDS = { websocket: /^upgrade: *websocket/im, events: /^GET \S*\/events\?/ }

export async function startProxy(target) {
  const { hostname, port } = new URL(target)
  const open = new Set()
  let isCut = false
  let isStalled = false
  let blocked = []
  const isBlocked = (head) => blocked.some((kind) => KINDS[kind].test(head))
  const server = net.createServer((near) => {
    if (isCut) return near.resetAndDestroy()
    const far = net.connect(Number(port), hostname)
    const pair = [near, far]
    for (const socket of pair) {
      open.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => {})
      socket.on('close', () => {
        open.delete(socket)
        for (const one of pair) one.destroy()
      })
    }
    if (isStalled) for (const socket of pair) socket.pause()
    near.on('data', (data) => {
      if (blocked.length && isBlocked(data.toString('latin1'))) near.resetAndDestroy()
      else far.write(data)
    })
    far.on('data', (data) => near.write(data))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const drop = () => {
    for (const socket of [...open]) socket.resetAndDestroy()
  }
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** Ends every connection and takes no more. */
    cut() {
      isCut = true
      drop()
    },
    /** Connections stand, and nothing comes through. */
    stall() {
      isStalled = true
      for (const socket of open) socket.pause()
    },
    /** Ends every connection, and from now on each that asks for one of these `KINDS`. */
    block(...kinds) {
      blocked = kinds
      drop()
    },
    restore() {
      isCut = isStalled = false
      blocked = []
      for (const socket of open) socket.resume()
    },
    /** Ends every connection once. */
    drop,
    async close() {
      drop()
      server.close()
      await once(server, 'close')
    },
  }
}
