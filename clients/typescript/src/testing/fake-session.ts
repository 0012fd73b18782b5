import { decodeFrame, type Frame } from '../core/serializer'
import type { Row } from '../core/protocol'
import type { LoggedChange } from './chat-database'
import type { FakeRelay } from './fake-relay'

interface Binding {
  id: number
  event: string
  table: string
  column: string | undefined
  value: string | undefined
}

interface Joined {
  joinRef: string | null
  bindings: Binding[]
  /** The last change this channel was told about or passed over. */
  position: number
  presenceKey: string
  tracked: Row | undefined
}

/** `event`, `table` and one `eq` filter: what the chat asks for. */
export function readBinding(entry: Row, index: number): Binding {
  const [, column, value] = /^(\w+)=eq\.(.*)$/.exec(String(entry['filter'] ?? '')) ?? []
  return { id: 1_000 + index, event: String(entry['event'] ?? '*'), table: String(entry['table']), column, value }
}

export function isMatch(binding: Binding, change: LoggedChange): boolean {
  const { event, table, column, value } = binding
  const isWanted = table === change.table && (event === '*' || event === change.type)
  return isWanted && (column === undefined || String(change.record[column]) === value)
}

export function changePayload(change: LoggedChange, ids: number[], cursor: string): Row {
  const { table, type, record } = change
  const data = { schema: 'public', table, type, commit_timestamp: '2026-01-01T00:00:00.000Z', columns: [], record, errors: null }
  return { ids, data, cursor }
}

/** The server's side of one WebSocket. */
export class FakeSession {
  readonly #relay: FakeRelay
  readonly #write: (raw: string) => void
  readonly #topics = new Map<string, Joined>()
  token: string | null

  constructor(relay: FakeRelay, write: (raw: string) => void, token: string | null) {
    this.#relay = relay
    this.#write = write
    this.token = token
  }

  receive(raw: string): void {
    const frame = decodeFrame(raw)
    if (!frame) return
    const { topic, event, payload } = frame
    if (event === 'heartbeat') return this.#reply(frame)
    if (event === 'phx_join') return this.#join(frame, payload as Row)
    const joined = this.#topics.get(topic)
    if (!joined) return this.#reply(frame, { reason: 'unmatched topic' }, 'error')
    if (event === 'phx_leave') {
      this.#reply(frame)
      this.#leave(topic, joined)
      return this.#send(topic, 'phx_close', {}, joined.joinRef, joined.joinRef)
    }
    if (event === 'access_token') this.token = String((payload as Row)['access_token'])
    if (event === 'broadcast') this.#relay.broadcast(topic, payload, this)
    if (event === 'presence') this.#present(frame, joined, payload as Row)
  }

  /** The connection is gone. */
  end(): void {
    for (const [topic, joined] of this.#topics) this.#leave(topic, joined)
  }

  /** Sends what each channel has not been told yet. */
  deliver(): void {
    for (const [topic, joined] of this.#topics) this.#catchUp(topic, joined)
  }

  broadcast(topic: string, payload: unknown): void {
    if (this.#topics.has(topic)) this.#send(topic, 'broadcast', payload)
  }

  presence(topic: string): Record<string, { metas: Row[] }> {
    const joined = this.#topics.get(topic)
    return joined?.tracked ? { [joined.presenceKey]: { metas: [joined.tracked] } } : {}
  }

  presenceDiff(topic: string, joins: object, leaves: object): void {
    if (this.#topics.get(topic)?.presenceKey) this.#send(topic, 'presence_diff', { joins, leaves })
  }

  /** Ends a channel as the server does when a token has run out. */
  expire(): void {
    for (const [topic, joined] of [...this.#topics]) {
      this.#system(topic, joined, 'error', 'Token has expired 0 seconds ago', {}, 'system')
      this.#leave(topic, joined)
      this.#send(topic, 'phx_close', {}, joined.joinRef, joined.joinRef)
    }
  }

  #join(frame: Frame, payload: Row): void {
    const { topic } = frame
    const config = (payload['config'] ?? {}) as Row
    if (typeof payload['access_token'] === 'string') this.token = payload['access_token']
    const user = this.#relay.userOf(this.token)
    if (!user) return this.#reply(frame, { reason: 'InvalidJWTToken: Token has expired 1 seconds ago' }, 'error')
    const entries = (config['postgres_changes'] ?? []) as Row[]
    const bindings = entries.map(readBinding)
    const presence = (config['presence'] ?? {}) as Row
    const joined: Joined = {
      joinRef: frame.join_ref,
      bindings,
      position: this.#relay.database.position,
      presenceKey: presence['enabled'] ? String(presence['key']) : '',
      tracked: undefined,
    }
    this.#topics.set(topic, joined)
    this.#reply(frame, { postgres_changes: entries.map((entry, index) => ({ ...entry, id: bindings[index]!.id })) })
    if (joined.presenceKey) this.#send(topic, 'presence_state', this.#relay.presence(topic), joined.joinRef)
    if (bindings.length) this.#subscribe(topic, joined, entries)
  }

  #subscribe(topic: string, joined: Joined, entries: Row[]): void {
    const cursors = entries.map((entry) => entry['since']).filter((since) => since && since !== 'now')
    const positions = cursors.map((cursor) => this.#relay.openCursor(String(cursor)))
    const isLost = positions.some((position) => position === undefined)
    if (isLost) {
      const more = { reason: 'retention', cursor: this.#relay.sealCursor(joined.position) }
      this.#system(topic, joined, 'error', 'must_refetch', more)
    } else if (positions.length) {
      joined.position = Math.min(...(positions as number[]))
      this.#catchUp(topic, joined)
    }
    const more = { cursor: this.#relay.sealCursor(joined.position), recovered: !isLost }
    this.#system(topic, joined, 'ok', 'Subscribed to PostgreSQL', more)
  }

  #catchUp(topic: string, joined: Joined): void {
    const user = this.#relay.userOf(this.token)
    for (const change of this.#relay.database.log.slice(joined.position)) {
      joined.position = change.position
      const ids = joined.bindings.filter((binding) => isMatch(binding, change)).map(({ id }) => id)
      if (!ids.length || !user || !this.#relay.maySee(user, change)) continue
      this.#send(topic, 'postgres_changes', changePayload(change, ids, this.#relay.sealCursor(change.position)))
    }
  }

  #present(frame: Frame, joined: Joined, payload: Row): void {
    this.#reply(frame)
    const before = joined.tracked
    const isTrack = String(payload['event']).toLowerCase() === 'track'
    joined.tracked = isTrack ? { ...(payload['payload'] as Row), phx_ref: this.#relay.newRef() } : undefined
    const show = (meta: Row | undefined) => (meta ? { [joined.presenceKey]: { metas: [meta] } } : {})
    this.#relay.presenceDiff(frame.topic, show(joined.tracked), show(before))
  }

  #leave(topic: string, joined: Joined): void {
    this.#topics.delete(topic)
    if (joined.tracked) this.#relay.presenceDiff(topic, {}, { [joined.presenceKey]: { metas: [joined.tracked] } })
  }

  #system(topic: string, joined: Joined, status: string, message: string, more: object, extension = 'postgres_changes'): void {
    const payload = { channel: topic.replace('realtime:', ''), extension, status, message, ...more }
    this.#send(topic, 'system', payload, joined.joinRef)
  }

  #reply({ join_ref, ref, topic }: Frame, response: object = {}, status = 'ok'): void {
    this.#send(topic, 'phx_reply', { status, response }, join_ref, ref)
  }

  #send(topic: string, event: string, payload: unknown, joinRef: string | null = null, ref: string | null = null): void {
    this.#write(JSON.stringify([joinRef, ref, topic, event, payload]))
  }
}
