// What the compatibility tests stand on: a database, clients of the published package, and a proxy that cuts.
// The relay is started by whoever runs this (tests/e2e/tests/supabase_js.rs) and named in the environment.
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import net from 'node:net'

import { createClient } from '@supabase/supabase-js'
import pg from 'pg'
import WebSocket from 'ws'

/** How long a test waits for anything. */
const DEADLINE_MS = 20_000

function setting(name) {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set; run: cargo e2e --test supabase_js`)
  return value
}

export const relayUrl = new URL(setting('COMPAT_RELAY_URL'))
const key = setting('COMPAT_KEY')

/** A database connection; the tests write through it as any writer would. */
export async function connectDatabase() {
  const database = new pg.Client({ connectionString: setting('COMPAT_DATABASE_URL') })
  await database.connect()
  return database
}

/** Tables as an app would have them, published while the relay runs. */
export async function createTables(database) {
  await database.query(`
    create table public.bookings (
      id uuid primary key default gen_random_uuid(),
      status text not null default 'requested',
      note text
    );
    create table public.messages (
      id bigint generated always as identity primary key,
      booking_id uuid not null references public.bookings,
      content text not null,
      sender_role text not null default 'client'
    );
    create table public.unpublished (id int primary key);
    grant select on public.bookings, public.messages, public.unpublished to anon, authenticated, service_role;
    alter publication supabase_realtime add table public.bookings, public.messages;
  `)
}

export async function createBooking(database) {
  const id = randomUUID()
  await database.query('insert into public.bookings (id) values ($1)', [id])
  return id
}

export async function say(database, booking, content) {
  await database.query('insert into public.messages (booking_id, content) values ($1, $2)', [booking, content])
}

/** An unmodified client, of another published version where `create` is its; only the URL is ours. */
export function connectClient(vsn, url = relayUrl, create = createClient, params = {}) {
  return create(url.href, key, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    realtime: { vsn, params, transport: WebSocket, reconnectAfterMs: () => 100 },
  })
}

/** What a callback received, in order, and a way to wait for more. */
export class Received {
  #items = []
  #waiting = []

  /** The callback. */
  push = (item) => {
    this.#items.push(item)
    for (const look of this.#waiting) look()
  }

  get all() {
    return [...this.#items]
  }

  /** Everything received, once one of it satisfies `wanted`. */
  async until(what, wanted) {
    let timer
    const arrived = new Promise((resolve, reject) => {
      timer = setTimeout(() => {
        reject(new Error(`waited in vain for ${what}; received: ${JSON.stringify(this.#items)}`))
      }, DEADLINE_MS)
      const look = () => {
        if (this.#items.some(wanted)) resolve(this.all)
      }
      this.#waiting.push(look)
      look()
    })
    try {
      return await arrived
    } finally {
      clearTimeout(timer)
    }
  }

  clear() {
    this.#items = []
  }
}

/** A channel whose statuses, system messages and changes are kept. `bindings` are filters of postgres_changes. */
export function openChannel(client, name, ...bindings) {
  const channel = client.channel(name)
  const statuses = new Received()
  const system = new Received()
  const changes = bindings.map((filter) => {
    const received = new Received()
    channel.on('postgres_changes', filter, received.push)
    return received
  })
  channel.on('system', {}, system.push)
  channel.subscribe((status, error) => statuses.push({ status, error }))
  return { channel, statuses, system, changes }
}

/** The same, once its bindings are live. */
export async function openLiveChannel(client, name, ...bindings) {
  const opened = openChannel(client, name, ...bindings)
  await opened.statuses.until('SUBSCRIBED', ({ status }) => status === 'SUBSCRIBED')
  await opened.system.until('live bindings', isLive)
  return opened
}

export const isLive = ({ extension, status }) => extension === 'postgres_changes' && status === 'ok'

/** A TCP proxy to the relay whose connections can be cut. */
export async function startProxy() {
  const open = new Set()
  const server = net.createServer((near) => {
    const far = net.connect(Number(relayUrl.port), relayUrl.hostname)
    for (const socket of [near, far]) {
      open.add(socket)
      socket.on('error', () => {})
      socket.on('close', () => {
        open.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.pipe(far).pipe(near)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => {
    for (const socket of open) socket.resetAndDestroy()
  }
  return {
    url: new URL(`http://127.0.0.1:${server.address().port}`),
    cut,
    async close() {
      cut()
      server.close()
      await once(server, 'close')
    },
  }
}
