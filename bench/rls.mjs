// The subscribers of bench/rls: joins them, starts the writer, and judges what arrives.
import { spawn, execFileSync } from 'node:child_process'
import { createHmac } from 'node:crypto'

const [address, url, script, ...numbers] = process.argv.slice(2)
const [subscribers, rate, seconds] = numbers.map(Number)
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
const sub = (number) => `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`

function token(number) {
  const claims = { role: 'authenticated', sub: sub(number), exp: 4102444800, email: `user${number}@example.com` }
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`
  return `${signed}.${createHmac('sha256', process.env.PGRELAY_JWT_SECRET).update(signed).digest('base64url')}`
}

let received = 0, strangers = 0, last = Date.now()
const latencies = [], perSecond = new Map()

function join(number) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://${address}/realtime/v1/websocket?apikey=${token(number)}&vsn=2.0.0`)
    socket.onerror = reject
    socket.onopen = () => socket.send(JSON.stringify(
      ['1', '1', 'realtime:notes', 'phx_join', { config: { postgres_changes: [{ event: '*', schema: 'public', table: 'notes' }] } }]))
    socket.onmessage = ({ data }) => {
      const [, , , event, payload] = JSON.parse(data)
      if (event === 'system') return payload.status === 'ok' ? resolve(socket) : reject(new Error(payload.message))
      if (event !== 'postgres_changes') return
      const now = Date.now(), { record } = payload.data
      if (record.user_id !== sub(number)) strangers += 1
      received += 1
      last = now
      latencies.push(now - Date.parse(record.at))
      const second = Math.floor(now / 1000)
      perSecond.set(second, (perSecond.get(second) ?? 0) + 1)
    }
  })
}

const sockets = []
for (let number = 1; number <= subscribers; number += 50) {
  const crowd = Array.from({ length: Math.min(50, subscribers - number + 1) }, (_, index) => join(number + index))
  sockets.push(...await Promise.all(crowd))
}

const rows = () => Number(execFileSync('psql', ['-XAtc', "select count(*) from notes where body <> 'older'", url]))
const writer = spawn(process.env.PGBENCH, ['-n', '-R', rate, '-c', 16, '-j', 2, '-T', seconds, '-f', script, url], { stdio: 'ignore' })
const code = await new Promise((resolve) => writer.on('close', resolve))
const ended = Date.now()
const written = rows()
while (received < written && Date.now() - Math.max(last, ended) < 15000) await new Promise((resolve) => setTimeout(resolve, 50))

latencies.sort((a, b) => a - b)
const at = (share) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? NaN
const behind = Math.max(0, last - ended)
console.log(`${subscribers} subscribers, ${rate} changes/s asked for ${seconds} s: written ${written} (${Math.round(written / seconds)}/s), ` +
  `received ${received}, of others ${strangers}`)
console.log(`latency ms: p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)}; last ${behind} ms after the writer's end`)
const lost = written - received
for (const socket of sockets) socket.close()
process.exit(code === 0 && lost === 0 && strangers === 0 && behind <= 2000 ? 0 : 1)
