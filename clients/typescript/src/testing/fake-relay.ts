import type { Row } from '../core/protocol'
import { tokenClaims } from '../core/token-keeper'
import { answerApi, type ApiAnswer } from './chat-api'
import { ChatDatabase, type FakeUser, type LoggedChange } from './chat-database'
import { changePayload, FakeSession, isMatch, readBinding } from './fake-session'
import { type ScriptedSocket, scriptSockets, type SocketScript } from './scripted-socket'

export interface FakeRelayOptions {
  now?: () => number
}

/** What can go wrong, switched on and off by a test. */
export interface Faults {
  /** No connection can be made, and none stands. */
  unreachable: boolean
  /** HTTP goes through, WebSockets do not. */
  webSocketsBlocked: boolean
  /** Event streams are ended at once. */
  streamsRefused: boolean
  /** Event streams are held back by something in between. */
  streamsBlocked: boolean
  /** Answers to the next messages that are sent, instead of taking them. A number is a status. */
  refuseMessages: number[]
  /** The next writes happen, but their answers are lost. */
  loseAnswers: number
  /** Tokens are refused. */
  tokensRefused: boolean
}

/** A token that names a user, as the fake accepts it. */
export function fakeToken(user: FakeUser, expiresAt?: number): string {
  const encode = (value: object) => btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(value)))).replace(/=/g, '')
  const claims = {
    sub: user.id,
    role: 'authenticated',
    ...(user.name && { user_metadata: { name: user.name } }),
    ...(user.role === 'operator' && { app_metadata: { chat_role: 'operator' } }),
    ...(expiresAt !== undefined && { exp: Math.floor(expiresAt / 1000) }),
  }
  return `${encode({ alg: 'none' })}.${encode(claims)}.fake`.replace(/\+/g, '-').replace(/\//g, '_')
}

/**
 * pgrelay and its chat in memory: give its `WebSocket` and `fetch` to `createRelay`. Tests of an application need no
 * server, and every fault can be had on demand.
 */
export class FakeRelay {
  readonly database: ChatDatabase
  readonly faults: Faults = {
    unreachable: false,
    webSocketsBlocked: false,
    streamsBlocked: false,
    streamsRefused: false,
    refuseMessages: [],
    loseAnswers: 0,
    tokensRefused: false,
  }
  /** Requests made, as `POST /api/messages`. */
  readonly requests: string[] = []
  readonly #now: () => number
  readonly #script: SocketScript
  readonly #sessions = new Map<object, FakeSession>()
  readonly #closers = new Set<() => void>()
  #oldest = 0
  #refs = 0

  constructor({ now = () => Date.now() }: FakeRelayOptions = {}) {
    this.#now = now
    this.database = new ChatDatabase(now)
    this.database.onChange(() => queueMicrotask(() => this.#deliver()))
    this.#script = scriptSockets((socket) => this.#accept(socket))
  }

  /** For `createRelay({ webSocket })`. */
  get WebSocket(): SocketScript['WebSocket'] {
    return this.#script.WebSocket
  }

  /** Sockets that clients made, oldest first. */
  get sockets(): ScriptedSocket[] {
    return this.#script.sockets
  }

  /** Open connections. */
  get connections(): number {
    return this.#sessions.size
  }

  /** Serves one connection of another kind, such as one over a real network. */
  connect(write: (raw: string) => void, token: string | null): { receive(raw: string): void; end(): void } {
    const session = new FakeSession(this, write, token)
    this.#sessions.set(session, session)
    return {
      receive: (raw) => session.receive(raw),
      end: () => {
        this.#sessions.delete(session)
        session.end()
      },
    }
  }

  /** For `createRelay({ fetch })`. */
  fetch: typeof fetch = async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input)
    const method = init.method ?? 'GET'
    this.requests.push(`${method} ${url.pathname}`)
    init.signal?.throwIfAborted()
    if (this.faults.unreachable) throw new TypeError('fetch failed')
    const user = this.userOf(/^Bearer (.*)$/.exec(new Headers(init.headers).get('authorization') ?? '')?.[1] ?? null)
    if (url.pathname === '/healthz') return new Response('ok')
    if (url.pathname === '/events' && this.faults.streamsRefused) throw new TypeError('fetch failed')
    if (url.pathname === '/events') return this.#stream(url, user, init.signal ?? undefined)
    const body = init.body ? JSON.parse(String(init.body)) : {}
    const { status, body: answer } = this.handle({ method, path: url.pathname + url.search, body, user })
    // What was asked for happens; the answer comes later, as over a network.
    await Promise.resolve()
    if (method !== 'GET' && this.faults.loseAnswers > 0) {
      this.faults.loseAnswers--
      throw new TypeError('fetch failed')
    }
    return new Response(answer === null ? null : JSON.stringify(answer), { status, headers: { 'content-type': 'application/json' } })
  }

  /** Answers a request of the chat's API. */
  handle(request: { method: string; path: string; body: Record<string, any>; user: FakeUser | null }): ApiAnswer {
    const isMessage = request.method === 'POST' && request.path.startsWith('/api/messages')
    const refusal = isMessage ? this.faults.refuseMessages.shift() : undefined
    if (refusal !== undefined) {
      const error = { code: 'unavailable', message: 'The server did not answer.', retryable: refusal === 429 || refusal >= 500 }
      return { status: refusal, body: { error } }
    }
    return answerApi(this.database, request)
  }

  /** Cuts every connection, as a network does. */
  cut(): void {
    for (const socket of [...this.sockets]) if (socket.readyState < 2) socket.end(1006)
    for (const close of [...this.#closers]) close()
  }

  /** Every channel is told that its token has run out. */
  expireTokens(): void {
    for (const session of this.#sessions.values()) session.expire()
  }

  /** Cursors up to now can no longer be honoured. */
  forget(): void {
    this.#oldest = this.database.position + 1
  }

  userOf(token: string | null): FakeUser | null {
    const claims = tokenClaims(token)
    const end = claims['exp']
    if (this.faults.tokensRefused || typeof claims['sub'] !== 'string') return null
    if (typeof end === 'number' && end * 1000 <= this.#now()) return null
    const isOperator = (claims['app_metadata'] as Row | undefined)?.['chat_role'] === 'operator'
    const name = (claims['user_metadata'] as Row | undefined)?.['name']
    return { id: claims['sub'], role: isOperator ? 'operator' : 'client', ...(typeof name === 'string' && { name }) }
  }

  maySee(user: FakeUser, { record, table }: LoggedChange): boolean {
    if (user.role === 'operator') return true
    if (table === 'assignments' || record['message_type'] === 'note') return false
    const booking = this.database.findBooking(String(table === 'bookings' ? record['id'] : record['booking_id']))
    return booking?.client_id === user.id
  }

  sealCursor = (position: number): string => `fake-${position}`

  openCursor(cursor: string): number | undefined {
    const position = Number(/^fake-(\d+)$/.exec(cursor)?.[1] ?? NaN)
    return position >= this.#oldest ? position : undefined
  }

  newRef = (): string => `ref${++this.#refs}`

  broadcast(topic: string, payload: unknown, from?: FakeSession): void {
    for (const session of this.#sessions.values()) if (session !== from) session.broadcast(topic, payload)
  }

  presence(topic: string): Record<string, { metas: Row[] }> {
    const all: Record<string, { metas: Row[] }> = {}
    for (const session of this.#sessions.values()) {
      for (const [key, { metas }] of Object.entries(session.presence(topic))) (all[key] ??= { metas: [] }).metas.push(...metas)
    }
    return all
  }

  presenceDiff(topic: string, joins: object, leaves: object): void {
    for (const session of this.#sessions.values()) session.presenceDiff(topic, joins, leaves)
  }

  #deliver(): void {
    for (const session of this.#sessions.values()) session.deliver()
  }

  #accept(socket: ScriptedSocket): void {
    queueMicrotask(() => {
      const { unreachable, webSocketsBlocked } = this.faults
      if (unreachable || webSocketsBlocked || socket.readyState !== 0) return socket.end(1006)
      const { receive, end } = this.connect((raw) => queueMicrotask(() => socket.receive(raw)), new URL(socket.url).searchParams.get('apikey'))
      const { onclose } = socket
      socket.onclose = (event) => {
        end()
        onclose?.(event)
      }
      socket.onClosed = end
      socket.onSent = (frame) => receive(JSON.stringify([frame.join_ref, frame.ref, frame.topic, frame.event, frame.payload]))
      socket.accept()
    })
  }

  #stream(url: URL, user: FakeUser | null, signal: AbortSignal | undefined): Response {
    if (!user) return new Response('{"error":"Token has expired"}', { status: 401 })
    const query = Object.fromEntries(url.searchParams)
    const binding = readBinding({ ...query, table: query['table']!.replace('public.', '') }, 0)
    const encoder = new TextEncoder()
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        if (this.faults.streamsBlocked) {
          signal?.addEventListener('abort', () => controller.error(signal.reason))
          return
        }
        const write = (event: string, id: string, payload: object) =>
          controller.enqueue(encoder.encode(`${event && `event: ${event}\n`}id: ${id}\ndata: ${JSON.stringify(payload)}\n\n`))
        const since = query['since']
        let position = (since && since !== 'now' && this.openCursor(since)) || this.database.position
        const deliver = () => {
          for (const change of this.database.log.slice(position)) {
            position = change.position
            if (!isMatch(binding, change) || !this.maySee(user, change)) continue
            const cursor = this.sealCursor(position)
            write('', cursor, changePayload(change, [binding.id], cursor))
          }
        }
        controller.enqueue(encoder.encode('retry: 1000\n\n'))
        deliver()
        const system = { extension: 'postgres_changes', status: 'ok', message: 'Subscribed to PostgreSQL', recovered: true }
        write('system', this.sealCursor(position), { ...system, cursor: this.sealCursor(position) })
        const undo = this.database.onChange(() => queueMicrotask(deliver))
        const end = (finish: () => void) => {
          undo()
          this.#closers.delete(close)
          finish()
        }
        const close = () => end(() => controller.error(new TypeError('terminated')))
        this.#closers.add(close)
        signal?.addEventListener('abort', () => end(() => controller.error(signal.reason)))
      },
    })
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
  }
}

export function createFakeRelay(options: FakeRelayOptions = {}): FakeRelay {
  return new FakeRelay(options)
}
