/** A TCP proxy whose connections can really be cut: a browser's offline switch leaves open WebSockets as they are. */
import { once } from 'node:events'
import net from 'node:net'

export async function startProxy(target) {
  const { hostname, port } = new URL(target)
  const open = new Set()
  let isCut = false
  let isStalled = false
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
    near.on('data', (data) => far.write(data))
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
    restore() {
      isCut = isStalled = false
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
